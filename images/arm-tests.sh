#!/usr/bin/env bash
# Runs unit tests on ARM, under qemu-user:
#
#   images/arm-tests.sh aarch64|armv7… [--long]
#
# A few minutes for what every change is tested with: what decides and what speaks Kubernetes; --long
# for all crates. Pages of 16 KiB take a kernel that has them (tests/run.sh card card::pages): those
# of qemu-user end in a segmentation fault of its own.
# What of it has been run: docs/boards.md.
set -euo pipefail
cd "$(dirname "$0")/.."

boards=()
long=no
for word in "$@"; do
  case "$word" in
  aarch64 | armv7) boards+=("$word") ;;
  --long) long=yes ;;
  *) boards=() && break ;;
  esac
done
if [ ${#boards[@]} = 0 ]; then
  echo "usage: images/arm-tests.sh aarch64|armv7… [--long]" >&2
  exit 64
fi

crates=(edge-api edge-core)
[ "$long" = no ] ||
  crates+=(edge-store edge-bus edge-client edge-ingress edge-node edge-server edge-agent edgectl)

. images/toolchain.sh
# Apart from what x86_64 builds: the two may be built at the same time.
export CARGO_TARGET_DIR=target/arm-tests

# arm_test BOARD SECONDS ARGUMENTS…: cargo test for a board; no program of it runs longer.
arm_test() {
  local board=$1 runner=qemu-aarch64-static
  [ "$board" = aarch64 ] || runner=qemu-arm-static
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER="timeout $2 $runner"
  export CARGO_TARGET_ARMV7_UNKNOWN_LINUX_MUSLEABIHF_RUNNER="timeout $2 $runner"
  zigbuild test --quiet --target "$(triple_of "$board")" -Z build-std=std,panic_unwind "${@:3}"
}

packages=() targets=()
for crate in "${crates[@]}"; do packages+=(-p "$crate"); done
for board in "${boards[@]}"; do targets+=(--target "$(triple_of "$board")"); done

# All of them at once, so that both cores have work to the end.
zigbuild test --quiet --no-run "${targets[@]}" -Z build-std=std,panic_unwind \
  "${packages[@]}" --lib --bins
# Boards side by side: the longest tests of each are of one thread.
said=$(mktemp -d)
trap 'rm -rf "$said"; kill $(jobs -p) 2>/dev/null || true' EXIT
tests=()
for board in "${boards[@]}"; do
  arm_test "$board" 600 --no-fail-fast "${packages[@]}" --lib --bins >"$said/$board" 2>&1 &
  tests+=($!)
done
failed=
for at in "${!boards[@]}"; do
  wait "${tests[at]}" || failed+=" ${boards[at]}"
  echo "== ${boards[at]} ($SECONDS s)"
  cat "$said/${boards[at]}"
done
[ -z "$failed" ] || { echo "== failed on$failed" >&2; exit 1; }

echo "== done ($SECONDS s)"
