#!/usr/bin/env bash
# Compile and test the Rust core without its x86 code, on an x86 machine.
#
# A copy of the sources is made in which no condition on the architecture holds, so that the compiler sees what it
# sees on a CPU that has no kernels here: every use of one outside such a condition is an error, and so is code that is
# then unused. aarch64 has kernels of its own: scripts/test_aarch64.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
copy=target/portable/src
rm -rf "$copy"
mkdir -p "$copy/rust"
cp Cargo.lock clippy.toml "$copy"
cp -r rust/core "$copy/rust"
sed '/^members/s#, "rust/py"##' Cargo.toml >"$copy/Cargo.toml"
find "$copy/rust" -name '*.rs' -exec sed -i -E \
	-e 's/target_arch = "x86(_64)?"/target_arch = "none"/g' \
	-e 's/"x86_64\+avx512[^"]*"/"aarch64+sve"/g' -e 's/"x86_64\+[^"]*"/"aarch64+neon"/g' {} + # of `multiversion`

export CARGO_TARGET_DIR=$PWD/target/portable/build
export RUSTFLAGS="-D warnings -A unexpected_cfgs"
cd "$copy"
cargo check --package ssl-risk-core --all-targets
cargo test --quiet --package ssl-risk-core --lib kernel
