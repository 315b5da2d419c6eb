#!/usr/bin/env bash
# Installs what a fresh Debian machine lacks, and only that, by package name:
#   tests/setup.sh build   what it takes to build
#   tests/setup.sh test    that, and the real programs that the tests compare with
#   tests/setup.sh guests  that, and what machines with a kernel of their own take
#   tests/setup.sh card    that, and what the card image is made and booted with
#   tests/setup.sh bench   that, and those that only the bench compares with
set -euo pipefail

root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

missing=()
# need COMMAND PACKAGE: remember the package when the machine has no such command.
need() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing+=("$2"); }

need cc gcc
command -v cc >/dev/null || missing+=(libc6-dev)
if ! command -v cargo >/dev/null; then
  # Debian's current toolchain; the distribution's plain rustc is years older.
  missing+=(rustc-web cargo-web)
fi
if [ "${1:-build}" = guests ]; then
  need qemu-system-x86_64 qemu-system-x86
  need mke2fs e2fsprogs
  need ip iproute2
  need nft nftables
  need wg wireguard-tools
  [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 || missing+=(busybox-static)
fi
if [ "${1:-build}" = card ]; then
  need mksquashfs squashfs-tools
  need mkfs.vfat dosfstools
  need mcopy mtools
  need sfdisk fdisk
  need depmod kmod
  need cpio cpio
  need xz xz-utils
  need readelf binutils
  need zstd zstd
  ls /usr/share/keyrings/debian-archive-trixie-stable.?gp >/dev/null 2>&1 ||
    missing+=(debian-archive-keyring)
  need qemu-system-aarch64 qemu-system-arm
  [ -e /usr/share/AAVMF/AAVMF_CODE.fd ] || missing+=(qemu-efi-aarch64)
  need ssh openssh-client
  need ip iproute2
fi
case "${1:-build}" in test | bench) extra=yes ;; *) extra=no ;; esac
if [ "$extra" = yes ]; then
  need kubectl kubernetes-client
  need docker-registry docker-registry
  need skopeo skopeo
  need umoci umoci
  need openssl openssl
  need curl curl
  need podman podman
  need runc runc
  need ip iproute2
  need nft nftables
  need mosquitto mosquitto
  need mosquitto_pub mosquitto-clients
  need etcd etcd-server
  need etcdctl etcd-client
  need qemu-aarch64-static qemu-user-static
  need strace strace
  need mke2fs e2fsprogs
  need xz xz-utils
  [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 || missing+=(busybox-static)
fi
if [ "${1:-build}" = bench ]; then
  need haproxy haproxy
  need dnsmasq dnsmasq-base
  need unbound unbound
  need nginx nginx
fi
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing: ${missing[*]}" >&2
  root apt-get update -qq || true
  root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    "${missing[@]}" >/dev/null
fi
