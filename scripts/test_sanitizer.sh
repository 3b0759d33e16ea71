#!/usr/bin/env bash
# Run the tests of the Rust core under AddressSanitizer: reads and writes outside of allocations, and leaks.
#
# Kernels are those that this CPU has, then the portable ones. Needs a nightly toolchain with the sources of the
# standard library (rustup toolchain install nightly --component rust-src), ten minutes to build and one to run.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=$PWD/target/sanitizer
# tests ask for more memory than there is, and for an error
export ASAN_OPTIONS=allocator_may_return_null=1
run() {
	cargo +nightly test -Zbuild-std --target x86_64-unknown-linux-gnu --release --quiet --package ssl-risk-core --lib
}
run
SSL_RISK_KERNEL=portable run
