#!/usr/bin/env bash
# Fails when a release binary in DIR outgrew its budget: one file of at most 12 MB is a promise.
set -euo pipefail
dir=$1
check() {
  local bytes
  bytes=$(stat -c %s "$dir/$1")
  echo "$1: $bytes bytes, budget $2"
  [ "$bytes" -le "$2" ] || { echo "$1 is over its budget" >&2; exit 1; }
}
check edged 12000000
check edgectl 5000000
