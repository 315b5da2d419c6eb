#!/usr/bin/env bash
# Fails when a release binary in DIR (target/<triple>/release) outgrew its target's budget: one
# small file is a promise. And when aarch64's can't be loaded by a kernel with pages of 16 KiB.
set -euo pipefail
dir=$1
case "$dir" in
*aarch64*) edged=10000000 ;;
*) edged=12000000 ;;
esac
check() {
  local bytes
  bytes=$(stat -c %s "$dir/$1")
  echo "$dir/$1: $bytes bytes, budget $2"
  [ "$bytes" -le "$2" ] || { echo "$1 is over its budget" >&2; exit 1; }
}
check edged "$edged"
check edgectl 4000000

if [[ "$dir" = *aarch64* ]] && readelf -lW "$dir/edged" "$dir/edgectl" |
  grep -E '^ *LOAD .* 0x(1000|2000)$'; then
  echo "segments for pages of 4 KiB: boards with 16 KiB can't load them" >&2
  exit 1
fi
