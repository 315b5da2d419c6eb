#!/usr/bin/env bash
# Makes the card image: a bootable arm64 disk for Raspberry Pis and for machines with UEFI, out of
# Debian's packages and edged.
#
#   images/card.sh [--edged DIR] OUT.img[.xz|.zst]
#
# DIR holds the static aarch64 `edged` and `edgectl`; without it they are where
# `images/cross-build.sh aarch64` leaves them. No root, no loop device, no mount, no emulator:
# packages are unpacked, none of their scripts is run, and each partition is made as a file.
# The same packages and binaries are to give the same bytes; `OUT.sha256` is their sum, which
# `edgectl flash` looks at, `OUT.packages` lists the packages, and
# EDGED_CARD_SNAPSHOT=20261101T000000Z takes those of a day from snapshot.debian.org, and
# EDGED_CARD_KERNEL=arm64-16k the kernel with pages of 16 KiB, for boards from a Cortex-A76 on.
# What is on the card and why: docs/card.md.
set -euo pipefail
export LC_ALL=C TZ=UTC
from=$PWD
cd "$(dirname "$0")/.."
here=$PWD/images/card
# absolute PATH: what is meant by it where we were called.
absolute() { case $1 in /*) echo "$1" ;; *) echo "$from/$1" ;; esac; }

edged=$PWD/target/aarch64-unknown-linux-musl/release
if [ "${1:-}" = --edged ]; then edged=$(absolute "${2:?--edged wants a directory}"); shift 2; fi
out=$(absolute "${1:?usage: images/card.sh [--edged DIR] OUT.img[.xz|.zst]}")
case $out in
*.img | *.img.xz | *.img.zst) ;;
*) echo "card.sh: $out is no .img" >&2; exit 64 ;;
esac
[ -d "${out%/*}" ] || { echo "card.sh: there is no directory ${out%/*}" >&2; exit 66; }
for file in "$edged/edged" "$edged/edgectl"; do
  [ "$(od -An -tx1 -j18 -N1 "$file" | tr -d ' ')" = b7 ] ||
    { echo "card.sh: $file is not for aarch64; see images/cross-build.sh" >&2; exit 64; }
done
for tool in apt-get dpkg-deb mksquashfs mkfs.vfat mcopy sfdisk depmod cpio readelf xz zstd; do
  command -v $tool > /dev/null || [ -x /usr/sbin/$tool ] || [ -x /sbin/$tool ] ||
    { echo "card.sh: no $tool here; tests/setup.sh card installs it" >&2; exit 69; }
done
PATH=$PATH:/usr/sbin:/sbin

release=trixie
# key KIND: the file of that one of Debian's keys.
key() {
  local file
  for file in /usr/share/keyrings/debian-archive-$release-$1.{gpg,pgp}; do
    if [ -e "$file" ]; then echo "$file"; return; fi
  done
  echo "card.sh: no debian-archive-$release-$1.gpg in /usr/share/keyrings: a recent package" \
    "debian-archive-keyring has it; tests/setup.sh card installs that" >&2
  exit 69
}
automatic=$(key automatic)
stable=$(key stable)
mirror=http://deb.debian.org/debian
[ -z "${EDGED_CARD_SNAPSHOT:-}" ] ||
  mirror=http://snapshot.debian.org/archive/debian/$EDGED_CARD_SNAPSHOT
# The disk's signature: partitions are found by it. Bytes as they lie on the disk, and as a number.
signature_bytes=44676445 signature=45646744
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
kernel=${EDGED_CARD_KERNEL:-arm64}
cmdline="panic=10 cgroup_enable=memory systemd.gpt_auto=0 systemd.getty_auto=0 net.ifnames=0 quiet"
# The first boot writes the disk's own over it (images/card/init).
cmdline+=" edged.disk=00000000"

began=$SECONDS
step() { printf '%4d s  %s\n' $((SECONDS - began)) "$*"; }
cache=$(absolute "${EDGED_CARD_CACHE:-$HOME/.cache/edged-card}")
work=$(mktemp -d "${TMPDIR:-/tmp}/edged-card.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root boot=$work/boot
mkdir -p "$root" "$boot"

# words FILE: its lines without comments.
words() { sed 's/#.*//; /^ *$/d' "$here/$1"; }
# packages: the card's, with the kernel that was asked for.
packages() { words packages | sed "s/^linux-image-arm64\$/linux-image-$kernel/"; }
# stamp DIR: nothing in it is younger than the recipe.
stamp() { find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +; }

# Debian's own apt, with a state of its own and for another architecture.
fetch() {
  mkdir -p "$cache"/lists/partial "$cache"/archives/partial "$work"/etc/{apt.conf.d,preferences.d}
  : > "$work/status"
  cat > "$work/etc/sources.list" <<LIST
deb [signed-by=$automatic,$stable] $mirror $release main non-free-firmware
LIST
  cat > "$work/apt.conf" <<CONF
Dir::State "$cache"; Dir::State::lists "$cache/lists"; Dir::State::status "$work/status";
Dir::Cache "$cache"; Dir::Cache::archives "$cache/archives"; Dir::Etc "$work/etc";
APT::Architecture "arm64"; APT::Architectures { "arm64"; }; APT::Install-Recommends "false";
APT::Sandbox::User "root"; Acquire::Languages "none"; Acquire::Check-Valid-Until "false";
CONF
  export APT_CONFIG=$work/apt.conf
  apt-get update -qq
  # What apt would install, less what only its scripts need.
  apt-get install -s $(packages) | awk '/^Inst / { gsub(/[()]/, ""); print $2 "=" $3 }' |
    sort > "$work/all"
  { words without; echo "linux-image-$kernel"; } > "$work/without"
  awk -F= 'FNR == NR { without[$1]; next } !($1 in without)' "$work/without" "$work/all" \
    > "$work/packages"
  (cd "$cache/archives" && apt-get download -qq $(cat "$work/packages"))
  unset APT_CONFIG
}

unpack() {
  mkdir -p "$root"/{boot/firmware,data,dev,etc/edged,proc,root,run,sys,tmp,usr,var}
  local line name version
  while IFS== read -r name version; do
    dpkg-deb --fsys-tarfile "$cache/archives/${name}_${version//:/%3a}"_*.deb |
      tar -x -C "$root" --no-same-owner --keep-directory-symlink
  done < "$work/packages"
}

# Boot files leave the root for the boot partition.
boot_files() {
  local kernel=$root/usr/lib/linux-image-$version firmware=$root/usr/lib/raspi-firmware
  mkdir -p "$boot/EFI/BOOT" "$boot/overlays"
  cp "$root/usr/lib/systemd/boot/efi/systemd-bootaa64.efi" "$boot/EFI/BOOT/BOOTAA64.EFI"
  cp "$root/boot/vmlinuz-$version" "$boot/vmlinuz"
  cp "$firmware"/{bootcode.bin,start.elf,fixup.dat,start4.elf,fixup4.dat} "$boot/"
  cp "$kernel"/broadcom/bcm2{7,837-rpi}*.dtb "$boot/"
  cp -r "$here/boot/." "$boot/"
  sed -i "s/@CMDLINE@/$cmdline/" "$boot/loader/entries/edged.conf"
  echo "console=ttyS1,115200 console=tty0 $cmdline" > "$boot/cmdline.txt"
}

# take WHAT FROM TO: those modules of the list, and what they need, into another tree.
take() {
  local from=$2 to=$3/lib/modules/$version
  mkdir -p "$to"
  words modules | awk -v what="$1" '$1 == what || what == "root" { print $2 }' > "$work/wanted"
  awk -v OFS=' ' '
    FNR == NR { wanted[$1] = 1; next }
    { file = $1; sub(/:$/, "", file); needs[file] = $0; all[++n] = file }
    END {
      for (i = 1; i <= n; i++) {
        file = all[i]; name = file; sub(/.*\//, "", name); sub(/\.ko.*/, "", name)
        dir = file; sub(/^kernel\//, "", dir); sub(/[^\/]*$/, "", dir)
        under = name; gsub(/_/, "-", under); hyphen = name; gsub(/-/, "_", hyphen)
        if (name in wanted || under in wanted || hyphen in wanted || dir in wanted) {
          count = split(needs[file], parts, " ")
          for (k = 1; k <= count; k++) { sub(/:$/, "", parts[k]); print parts[k] }
        }
      }
    }' "$work/wanted" "$from/modules.dep" | sort -u > "$work/taken"
  (cd "$from" && cpio -pdm --quiet "$to" < "$work/taken")
  # A misspelt name would be a board without its network.
  sed 's|.*/||; s|\.ko.*||; s|-|_|g' "$from/modules.builtin" <(cut -d: -f1 "$from/modules.dep") |
    sort -u > "$work/known"
  grep -v / "$work/wanted" | tr - _ | sort -u | comm -23 - "$work/known" > "$work/unknown"
  [ ! -s "$work/unknown" ] ||
    { echo "card.sh: Linux $version has no module" $(cat "$work/unknown") >&2; exit 1; }
  cp "$from"/modules.{order,builtin,builtin.modinfo} "$to/"
  find "$to" -name '*.ko.xz' -exec xz -d {} +
  find "$to" -name '*.ko' -exec chmod 644 {} +
  depmod -b "$3" "$version"
  rm -f "$to"/modules.{symbols,symbols.bin,order,builtin.modinfo,devname}
}

kernel_modules() {
  local all=$work/modules/lib/modules/$version
  mkdir -p "$work/modules/lib/modules" "$work/initramfs/bin"
  mv "$root/usr/lib/modules/$version" "$all"
  depmod -b "$work/modules" "$version"
  take initramfs "$all" "$work/initramfs"
  rm -f "$work/initramfs/lib/modules/$version"/*.bin
  # Beneath `lib`, since depmod knows no other place, and then where the root has it.
  take root "$all" "$work/kept"
  mkdir -p "$root/usr/lib/modules"
  mv "$work/kept/lib/modules/$version" "$root/usr/lib/modules/"
  cp "$root/usr/bin/busybox" "$work/initramfs/bin/busybox"
  sed "s/@SIGNATURE@/$signature_bytes/" "$here/init" > "$work/initramfs/init"
  chmod 755 "$work/initramfs/init"
  stamp "$work/initramfs"
  (cd "$work/initramfs" && find . | sort | cpio -o -H newc --quiet --reproducible -R 0:0) |
    zstd -q -19 > "$boot/initrd.img"
}

# What a board never reads.
trim() {
  rm -rf "$root"/boot/* "$root"/usr/share/{doc,man,locale,info,bug,lintian,bash-completion,zsh} \
    "$root"/usr/share/{polkit-1,dbus-1,initramfs-tools,pkgconfig,apport,gdb,doc-base,mime} \
    "$root"/usr/lib/{linux-image-*,raspi-firmware,systemd/boot,systemd/catalog,udev/hwdb.d} \
    "$root"/usr/lib/{kernel,binfmt.d,pcrlock.d,environment.d,modprobe.d/README} \
    "$root"/usr/lib/systemd/{user,user-generators,user-environment-generators,user-preset} \
    "$root"/usr/share/zoneinfo/{right,posix} "$root"/usr/lib/aarch64-linux-gnu/gconv \
    "$root"/etc/{init.d,default,kernel,cron.d,cron.daily,logrotate.d,apparmor.d,pam.d,rc*.d,X11} \
    "$root"/var/*
  mkdir -p "$root/boot/firmware" "$root"/etc/{default,dropbear}
  # Wi-Fi of the boards that the boot partition has files for.
  find "$root/usr/lib/firmware" -type f -o -type l | grep -vE \
    '/(regulatory.db|cypress/cyfmac43(430|436|455)|brcm/(brcmfmac|BCM)43(43|45)[0-9a-z]*)' |
    xargs rm -f
  find "$root/usr/lib/firmware" -xtype l -delete
  find "$root/usr/lib/firmware" -type d -empty -delete
}

# mask: units that do nothing on a root that nobody writes to, or that nobody here asked for.
mask() {
  local unit
  for unit in $(words masked); do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
}

enable() { # enable UNIT TARGET
  mkdir -p "$root/etc/systemd/system/$2.wants"
  local file=${1/@*.service/@.service}
  ln -sf "/usr/lib/systemd/system/$file" "$root/etc/systemd/system/$2.wants/$1"
}

configure() {
  cp -r "$here/root/." "$root/"
  local applet unit rule
  for rule in $(words rules); do rm "$root/usr/lib/udev/rules.d/$rule.rules"; done
  for applet in $(words applets); do
    [ -e "$root/usr/bin/$applet" ] || [ -e "$root/usr/sbin/$applet" ] ||
      ln -s busybox "$root/usr/bin/$applet"
  done
  ln -sf regulatory.db-debian "$root/usr/lib/firmware/regulatory.db"
  ln -sf regulatory.db.p7s-debian "$root/usr/lib/firmware/regulatory.db.p7s"
  ln -sf /run/systemd/resolve/resolv.conf "$root/etc/resolv.conf"
  ln -sf /usr/share/zoneinfo/Etc/UTC "$root/etc/localtime"
  ln -sf /proc/self/mounts "$root/etc/mtab"
  ln -sf ../lib/systemd/systemd "$root/usr/sbin/init"
  for unit in reboot poweroff halt; do ln -sf ../bin/systemctl "$root/usr/sbin/$unit"; done
  mask
  ln -sf /usr/lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
  install -m 755 "$edged/edged" "$edged/edgectl" "$root/usr/bin/"
  cp -r systemd/*.service "$root/usr/lib/systemd/system/"
  for unit in systemd/*.service.d; do
    [ ! -d "$unit" ] || cp -r "$unit" "$root/usr/lib/systemd/system/"
  done
  for unit in edged.service edged-firstboot.service systemd-networkd.service \
    systemd-resolved.service; do
    enable $unit multi-user.target
  done
  enable ssh.socket multi-user.target
  enable systemd-timesyncd.service sysinit.target
  chmod -R u=rwX,go=rX "$root"
  chmod 700 "$root/root"
}

# Each program finds its libraries, whatever was left out.
check() {
  find "$root/usr" -name '*.so*' -printf '%f\n' | sort -u > "$work/have"
  find "$root/usr" -type f \( -perm -u+x -o -name '*.so*' \) -print0 |
    { xargs -0 readelf -d 2> /dev/null || true; } | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u |
    comm -23 - "$work/have" > "$work/lacking"
  [ ! -s "$work/lacking" ] || { echo "card.sh: no package has $(cat "$work/lacking")" >&2; exit 1; }
}

# Partition 2, and then all of them behind a table.
assemble() {
  stamp "$root"
  mksquashfs "$root" "$work/root.img" -quiet -no-progress -all-root -no-exports -no-xattrs \
    -comp zstd -Xcompression-level 15 -b 256K -processors "$(nproc)"
  # The same on every image, so that a card can get another root and keep its data.
  local mib=2048 boot_mib=96 root_mib=64 data_at
  data_at=$((4 + boot_mib + root_mib))
  [ "$(stat -c %s "$work/root.img")" -le $((root_mib * 1048576)) ] ||
    { echo "card.sh: the root is larger than its partition of $root_mib MiB" >&2; exit 1; }
  truncate -s ${boot_mib}M "$work/boot.img"
  mkfs.vfat -F 32 -s 1 -n EDGED-BOOT -i $signature --invariant "$work/boot.img" > /dev/null
  stamp "$boot"
  (cd "$boot" && find . -mindepth 1 -maxdepth 1 | sort |
    xargs -I{} mcopy -s -m -Q -i "$work/boot.img" {} ::)
  rm -f "$image"
  truncate -s $((data_at + 1))M "$image"
  sfdisk -q "$image" <<TABLE
label: dos
label-id: 0x$signature
start=$((4 * mib)), size=$((boot_mib * mib)), type=c, bootable
start=$(((4 + boot_mib) * mib)), size=$((root_mib * mib)), type=83
start=$((data_at * mib)), size=$mib, type=da
TABLE
  dd if="$work/boot.img" of="$image" bs=1M seek=4 conv=notrunc,sparse status=none
  dd if="$work/root.img" of="$image" bs=1M seek=$((4 + boot_mib)) conv=notrunc,sparse status=none
}

image=${out%.xz}; image=${image%.zst}
fetch
step "packages: $(wc -l < "$work/packages")"
unpack
version=$(ls "$root/usr/lib/modules")
boot_files
kernel_modules
trim
configure
check
step "root: $(du -sm "$root" | cut -f1) MiB, Linux $version"
assemble
cp "$work/packages" "$image.packages"
step "image: $(($(stat -c %s "$image") / 1048576)) MiB, squashfs $(du -m "$work/root.img" |
  cut -f1), boot $(du -sm "$boot" | cut -f1)"
case $out in
*.xz) xz -T0 -6 -f "$image" ;;
*.zst) zstd -q -19 -T0 -f --rm "$image" -o "$out" ;;
esac
# What `edgectl flash` and `sha256sum -c` compare it with.
(cd "$(dirname "$out")" && sha256sum "${out##*/}" > "${out##*/}.sha256")
step "$out: $(awk "BEGIN { printf \"%.1f\", $(stat -c %s "$out") / 1e6 }") MB"
