#!/usr/bin/env bash
# Runs all tests, on a fresh machine as well: installs what they compare with, builds the
# binaries that they start, then runs every room. As root, because containers need it; what a
# machine can't run says so.
#   tests/run.sh              everything that CI runs
#   tests/run.sh tidy         one room, by the start of its tests' names
set -euo pipefail
cd "$(dirname "$0")/.."
tests/setup.sh test
cargo build --workspace --bins
if [ $# -gt 0 ]; then
  exec cargo test -p edge-tests --test all -- "$@"
fi
# All of them: one failure must not hide another.
cargo test --workspace --no-fail-fast
