# The compiler that builds for boards, from the package registries alone; to be sourced from the
# root: Debian's rustc with its library source (so that the standard library is built for the
# target), and zig, which brings a C compiler, a linker and musl. Nothing installed is touched.
# Sets CARGO, RUSTC, RUSTFLAGS and their kind, and gives `zigbuild` and `triple_of`.

# A directory of our own beneath the one that was named: it is removed before it is filled.
tools=${EDGED_CROSS_DIR:-$HOME/.cache}/edged-cross

# The target triple of a board's architecture; empty for an unknown one.
triple_of() {
  case "$1" in
  x86_64) echo x86_64-unknown-linux-musl ;;
  aarch64) echo aarch64-unknown-linux-musl ;;
  armv7) echo armv7-unknown-linux-musleabihf ;;
  armv6) echo arm-unknown-linux-musleabihf ;;
  esac
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

fetch_toolchain() {
  local version std llvm
  rm -rf "$tools" && mkdir -p "$tools/debs" "$tools/root"
  as_root apt-get update -qq || true
  version=$(apt-cache policy rustc-web | awk '/Candidate:/ {print $2}')
  std="libstd-rust-web-$(echo "$version" | cut -d. -f1,2)"
  llvm=$(apt-cache depends "$std" | awk '/Depends: libllvm/ {print $2}')
  chmod 777 "$tools/debs" # apt downloads as a user of its own
  (cd "$tools/debs" && apt-get download -qq rustc-web rust-web-src \
    libstd-rust-web-dev "$std" "$llvm")
  for deb in "$tools"/debs/*.deb; do dpkg -x "$deb" "$tools/root"; done
  rm -rf "$tools/debs"
  command -v patch >/dev/null || as_root apt-get install -y -qq patch >/dev/null
  python3 -m venv "$tools/venv" 2>/dev/null || {
    as_root apt-get install -y -qq python3-venv >/dev/null
    python3 -m venv "$tools/venv"
  }
  "$tools/venv/bin/pip" install -q ziglang==0.13.0.post1 cargo-zigbuild
  # The source package's link is absolute; point it into our own tree.
  rm -rf "$tools/root/usr/lib/rustlib/src/rust"
  mkdir -p "$tools/root/usr/lib/rustlib/src"
  ln -s "$(echo "$tools"/root/usr/src/rustc-*)" "$tools/root/usr/lib/rustlib/src/rust"
  touch "$tools/ready"
}
[ -e "$tools/ready" ] || fetch_toolchain

export LD_LIBRARY_PATH="$tools/root/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PATH="$tools/venv/bin:$PATH"
# The machine's own cargo drives Debian's compiler: cargo needs no match with the library source.
CARGO=$(rustup which cargo 2>/dev/null || command -v cargo)
export CARGO RUSTC="$tools/root/usr/bin/rustc" RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-C link-self-contained=no -C target-feature=+crt-static"
# zig's musl is 1.2.5, where 32-bit boards have 64-bit time: without this the libc crate talks to
# them as if they had not, and their clock ends in January 2038.
export RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1

# zigbuild SUBCOMMAND ARGUMENTS…: cargo with zig as linker and C compiler, and our patches.
zigbuild() {
  local patched
  patched=$(images/patch.sh)
  "$tools/venv/bin/cargo-zigbuild" "$@" --locked "$patched"
}
