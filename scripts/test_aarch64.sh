#!/usr/bin/env bash
# Build the Rust core for aarch64 and run its tests under emulation: the NEON kernels, on an x86 machine.
#
# Needs what is asked for below; on Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user, and the standard
# library of `rustup target add aarch64-unknown-linux-gnu`, or libstd-rust-dev:arm64 beside Debian's own rustc.
# Emulation says nothing about speed.
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
missing() {
	echo "$1 is missing: see the top of $0 for what to install" >&2
	exit 1
}
command -v aarch64-linux-gnu-gcc >/dev/null || missing "the linker aarch64-linux-gnu-gcc"
command -v qemu-aarch64 >/dev/null || missing "the emulator qemu-aarch64"
[ -d "$(rustc --print target-libdir --target $target)" ] || missing "Rust's standard library for $target"

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# where the system has aarch64's own libraries beside its others, the linker's would be mixed with them
libraries=$([ -e /lib/ld-linux-aarch64.so.1 ] || echo "-L /usr/aarch64-linux-gnu")
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 $libraries"
cargo test --locked --release --target "$target" --package ssl-risk-core "$@"
