#!/usr/bin/env bash
# Runs all tests, on a fresh machine as well: installs what they compare with, builds the
# binaries that they start, then runs every room. As root, because containers need it; what a
# machine can't run says so.
#   tests/run.sh              everything that CI runs
#   tests/run.sh tidy         one room, by the start of its tests' names
#   tests/run.sh guests       what takes kernels of their own: whole machines, minutes, not in CI
#   tests/run.sh card         the card image in boards that QEMU makes: minutes, card::pods in CI
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = guests ]; then
  tests/setup.sh guests
  export EDGED_GUESTS=1
  shift
  set -- "${@:-guest::}" --nocapture --test-threads=1
elif [ "${1:-}" = card ]; then
  tests/setup.sh card
  export EDGED_CARD=1
  [ -n "${EDGED_CARD_IMAGE:-}${EDGED_CARD_BINARIES:-}" ] || images/cross-build.sh aarch64
  cargo build -p edgectl --bins
  shift
  exec cargo test -p edge-tests --test all -- "${@:-card::}" --nocapture --test-threads=1
else
  tests/setup.sh test
fi
cargo build --workspace --bins
if [ $# -gt 0 ]; then
  exec cargo test -p edge-tests --test all -- "$@"
fi
# All of them: one failure must not hide another. What failed is said once more at the end, below
# thousands of lines of what did not.
log=target/tests.log
if ! cargo test --workspace --no-fail-fast 2>&1 | tee "$log"; then
  printf '\n== what failed, again\n'
  sed -n '/^failures:$/,/^test result: /p' "$log"
  exit 101
fi
