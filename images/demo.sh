#!/usr/bin/env bash
# From a fresh machine to a running cluster: installs what is missing to build, builds edged,
# and runs its demo (as root, because it runs containers).
set -euo pipefail
cd "$(dirname "$0")/.."
tests/setup.sh build
cargo build --release --bin edged
if [ "$(id -u)" = 0 ]; then exec target/release/edged demo; else exec sudo target/release/edged demo; fi
