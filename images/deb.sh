#!/usr/bin/env bash
# Packs what images/cross-build.sh has built into a Debian package, with cargo-deb
# (`cargo install cargo-deb`): target/debian/edged_<version>_<arch>.deb
#   images/deb.sh amd64|arm64|armhf
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
amd64) triple=x86_64-unknown-linux-musl; build=x86_64 ;;
arm64) triple=aarch64-unknown-linux-musl; build=aarch64 ;;
armhf) triple=armv7-unknown-linux-musleabihf; build=armv7 ;;
*) echo "usage: images/deb.sh amd64|arm64|armhf" >&2; exit 64 ;;
esac
target=${CARGO_TARGET_DIR:-target}
for file in edged edgectl; do
  [ -x "$target/$triple/release/$file" ] && continue
  echo "deb.sh: $target/$triple/release/$file is missing: images/cross-build.sh $build makes it" >&2
  exit 1
done
if ! command -v cargo-deb > /dev/null; then
  echo "deb.sh: cargo-deb is missing: cargo install cargo-deb" >&2
  exit 1
fi
mkdir -p "$target/debian"
cargo-deb -q -p edge-agent --target "$triple" --no-build --no-strip --no-dbgsym \
  -o "$target/debian/"
ls -l "$target"/debian/edged_*_"$1".deb
