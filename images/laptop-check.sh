#!/usr/bin/env bash
# Checks that edgectl compiles for laptops: macOS and Windows, with the standard library's source in
# the place of their toolchains. A check, no build: linking takes Apple's and Microsoft's libraries.
#
#   images/laptop-check.sh [target triple…]
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- aarch64-apple-darwin x86_64-pc-windows-gnu
. images/toolchain.sh
unset RUSTFLAGS
# Where the tests on ARM are built: macros and build scripts are the same.
export CARGO_TARGET_DIR=target/arm-tests
targets=()
for triple in "$@"; do targets+=(--target "$triple"); done
zigbuild check --quiet "${targets[@]}" -Z build-std=std,panic_unwind -p edgectl
echo "edgectl compiles for $*"
