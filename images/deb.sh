#!/usr/bin/env bash
# Packs what images/cross-build.sh has built into Debian packages, with cargo-deb
# (`cargo install --locked cargo-deb`): target/debian/edged_<version>_<arch>.deb
#   images/deb.sh [--fast] amd64|arm64|armhf…
# --fast packs less tightly, for tests.
set -euo pipefail
cd "$(dirname "$0")/.."
usage() { echo "usage: images/deb.sh [--fast] amd64|arm64|armhf…" >&2; exit 64; }
fast=()
if [ "${1:-}" = --fast ]; then fast=(--fast); shift; fi
[ $# -gt 0 ] || usage
target=${CARGO_TARGET_DIR:-target}
triples=()
for arch; do
  case "$arch" in
  amd64) triple=x86_64-unknown-linux-musl; build=x86_64 ;;
  arm64) triple=aarch64-unknown-linux-musl; build=aarch64 ;;
  armhf) triple=armv7-unknown-linux-musleabihf; build=armv7 ;;
  *) usage ;;
  esac
  for file in edged edgectl; do
    [ -x "$target/$triple/release/$file" ] && continue
    echo "deb.sh: $target/$triple/release/$file is missing: images/cross-build.sh $build makes it" >&2
    exit 1
  done
  triples+=("$triple")
done
if ! command -v cargo-deb > /dev/null; then
  echo "deb.sh: cargo-deb is missing: cargo install --locked cargo-deb" >&2
  exit 1
fi
mkdir -p "$target/debian"
for triple in "${triples[@]}"; do
  cargo-deb -q -p edge-agent --target "$triple" --no-build --no-strip --no-dbgsym \
    --compress-system "${fast[@]}" -o "$target/debian/" > /dev/null
done
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
for arch; do ls -l "$target/debian/edged_${version}-1_$arch.deb"; done
