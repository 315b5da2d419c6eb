#!/usr/bin/env bash
# Builds static edged and edgectl for a board, with nothing but the package registries:
#
#   images/cross-build.sh x86_64|aarch64|armv7 [cargo arguments…]
#
# Leaves target/<triple>/release/{edged,edgectl}. No container engine and no toolchain download:
# Debian's rustc (with its library source, so that the standard library is built for the target)
# compiles, zig's bundled musl links. People with a network and Docker can use `cross` instead:
# CROSS_CONFIG=cross.toml cross build --release --target aarch64-unknown-linux-musl
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
x86_64) triple=x86_64-unknown-linux-musl ;;
aarch64) triple=aarch64-unknown-linux-musl ;;
armv7) triple=armv7-unknown-linux-musleabihf ;;
*) echo "usage: images/cross-build.sh x86_64|aarch64|armv7 [cargo arguments]" >&2; exit 64 ;;
esac
shift

tools=${EDGED_CROSS_DIR:-$HOME/.cache/edged-cross}

# Debian's compiler is unpacked beside whatever is installed, never over it.
fetch_tools() {
  local version std llvm
  rm -rf "$tools" && mkdir -p "$tools/debs" "$tools/root"
  apt-get update -qq || true
  version=$(apt-cache policy rustc-web | awk '/Candidate:/ {print $2}')
  std="libstd-rust-web-$(echo "$version" | cut -d. -f1,2)"
  llvm=$(apt-cache depends "$std" | awk '/Depends: libllvm/ {print $2}')
  chmod 777 "$tools/debs" # apt downloads as a user of its own
  (cd "$tools/debs" && apt-get download -qq rustc-web rust-web-src \
    libstd-rust-web-dev "$std" "$llvm")
  for deb in "$tools"/debs/*.deb; do dpkg -x "$deb" "$tools/root"; done
  rm -rf "$tools/debs"
  python3 -m venv "$tools/venv" 2>/dev/null || {
    apt-get install -y -qq python3-venv
    python3 -m venv "$tools/venv"
  }
  "$tools/venv/bin/pip" install -q ziglang==0.13.0.post1 cargo-zigbuild
  # The source package's link is absolute; point it into our own tree.
  rm -rf "$tools/root/usr/lib/rustlib/src/rust"
  mkdir -p "$tools/root/usr/lib/rustlib/src"
  ln -s "$(echo "$tools"/root/usr/src/rustc-*)" "$tools/root/usr/lib/rustlib/src/rust"
  touch "$tools/ready"
}
[ -e "$tools/ready" ] || fetch_tools

root=$tools/root/usr
export LD_LIBRARY_PATH="$root/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PATH="$tools/venv/bin:$PATH"
# The machine's own cargo drives Debian's compiler: cargo needs no match with the library source.
CARGO=$(rustup which cargo 2>/dev/null || command -v cargo)
export CARGO RUSTC="$root/bin/rustc" RUSTC_BOOTSTRAP=1
# Panics abort, so that nothing ever unwinds: the tables for it are a megabyte. Runs of instructions
# that many functions have alike become functions of their own: 0.7 MB less on x86_64.
export RUSTFLAGS="-C link-self-contained=no -C target-feature=+crt-static -C force-unwind-tables=no -Z location-detail=none"
export RUSTFLAGS="$RUSTFLAGS -C llvm-args=--enable-machine-outliner=always"

# The standard library without its reader of debug information, which a stripped file has not.
"$tools/venv/bin/cargo-zigbuild" zigbuild --release --target "$triple" \
  -Z build-std=std,panic_abort -Z build-std-features=optimize_for_size -p edge-agent -p edgectl "$@"
ls -l "target/$triple/release/edged" "target/$triple/release/edgectl"
