#!/usr/bin/env bash
# Makes the three Debian packages from the static binaries that are there, looks at what is in
# them, and installs, sets up, removes and purges the one for this machine in a root of its own:
# nothing of edged may be left in it.
#   images/deb-check.sh        as root, with cargo-deb; under a minute
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
most=$((9 << 20))
work=$(mktemp -d "${TMPDIR:-/tmp}/edged-deb.XXXXXX")
trap 'rm -rf "$work"' EXIT
fail() { echo "deb-check.sh: $*" >&2; exit 1; }
# same WHAT HAVE WANT: two texts are the same, or their difference is shown.
same() { diff -u --label wanted --label "$1" <(echo "$3") <(echo "$2") || fail "$1 differs"; }

images/deb.sh --fast amd64 arm64 armhf
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)-1
deb() { echo "$target/debian/edged_${version}_$1.deb"; }

# Everything in a package, with its mode; all of it is root's, and no file of /etc is among it.
content="-rw-r--r-- ./usr/lib/systemd/system-preset/50-edged.preset
-rw-r--r-- ./usr/lib/systemd/system/edged-firstboot.service
-rw-r--r-- ./usr/lib/systemd/system/edged-pods.service
-rw-r--r-- ./usr/lib/systemd/system/edged.service
-rw-r--r-- ./usr/lib/systemd/system/wpa_supplicant@wlan0.service.d/edged.conf
-rw-r--r-- ./usr/share/doc/edged/copyright
-rw-r--r-- ./usr/share/doc/edged/examples/web.yaml
-rw-r--r-- ./usr/share/doc/edged/install.md
-rwxr-xr-x ./usr/bin/edgectl
-rwxr-xr-x ./usr/bin/edged"

look() { # look ARCH MACHINE: the ELF header's number of the processor
  local file root=$work/$1 script unit number
  file=$(deb "$1")
  [ "$(stat -c %s "$file")" -le $most ] || fail "$file has more than $most bytes"
  same "$1: fields" "$(dpkg-deb -f "$file" Package Version Architecture)" \
    "$(printf 'Package: edged\nVersion: %s\nArchitecture: %s' "$version" "$1")"
  [ -z "$(dpkg-deb -f "$file" Depends)" ] || fail "$1: it depends on something"
  same "$1: content" "$(dpkg-deb -c "$file" | awk '!/^d/ { print $1, $6 }' | sort)" "$content"
  same "$1: owners" "$(dpkg-deb -c "$file" | awk '{ print $2 }' | sort -u)" "0/0"
  dpkg-deb -R "$file" "$root"
  for script in preinst postinst prerm postrm; do
    [ -x "$root/DEBIAN/$script" ] || fail "$1: $script can't be run"
    cmp "$root/DEBIAN/$script" "systemd/deb/$script"
    sh -n "$root/DEBIAN/$script"
  done
  for unit in systemd/*.service; do cmp "$unit" "$root/usr/lib/systemd/system/${unit#*/}"; done
  for file in edged edgectl; do
    number=$(od -An -tu2 -j18 -N2 "$root/usr/bin/$file" | tr -d ' ')
    [ "$number" = "$2" ] || fail "$1: $file is for another processor ($number)"
  done
  echo "$1: $(stat -c %s "$(deb "$1")") bytes packed, as it should be"
}
look amd64 62
look arm64 183
look armhf 40

# A root with nothing but what maintainers' scripts call; in namespaces, so that nothing of this
# machine is touched. What there is of systemd is a file or two.
arch=$(dpkg --print-architecture)
[ -e "$(deb "$arch")" ] || { echo "no package is for this machine ($arch)"; exit 0; }
root=$work/root
mkdir -p "$root"/{boot,dev,etc/systemd/system/multi-user.target.wants,proc,root,run,tmp,usr/bin} \
  "$root"/etc/{NetworkManager/system-connections,default,modprobe.d} \
  "$root"/var/lib/dpkg/{info,updates,triggers}
ln -s usr/bin "$root/bin"
: > "$root/var/lib/dpkg/status"
: > "$root/dev/null"
for name in sh awk grep head mkdir rm rmdir sed sort touch umount uname; do
  install "$(command -v $name)" "$root/usr/bin/$name"
  # Its libraries, where it looks for them.
  for file in $(ldd "$(command -v $name)" | grep -o '/[^ ]*'); do
    [ -e "$root$file" ] || install -D "$file" "$root$file"
  done
done
ln -s /usr/lib/systemd/system/NetworkManager.service \
  "$root/etc/systemd/system/multi-user.target.wants/"
cat > "$work/run" <<'RUN'
mount -t proc proc "$1/proc"
mount --bind /dev/null "$1/dev/null"
exec timeout 60 "${@:2}"
RUN
inside() {
  unshare --net --mount --pid --fork --uts --ipc bash "$work/run" "$root" "$@" > "$work/said" 2>&1 ||
    { cat "$work/said"; fail "$*"; }
}
package() { inside dpkg --root="$root" --log=/dev/null "$@"; }
tree() { (cd "$root" && find . -path ./var/lib/dpkg -prune -o -path ./proc -prune -o -print | sort); }
before=$(tree)
# A board that calls itself what the package is for, and has an older processor.
mv "$root/usr/bin/uname" "$work/uname"
printf '#!/bin/sh\necho armv6l\n' > "$root/usr/bin/uname"
chmod +x "$root/usr/bin/uname"
(package -i "$(deb "$arch")") > "$work/refused" && fail "it is installed on an ARMv6"
grep -q 'edged needs an ARMv7 or later' "$work/refused" || fail "an ARMv6 is not told"
mv "$work/uname" "$root/usr/bin/uname"
same "what an ARMv6 has of it" "$(tree)" "$before"
package -i "$(deb "$arch")"
[ "$("$root/usr/bin/edged" version | head -n 1 | cut -d' ' -f2)" = "${version%-1}" ] ||
  fail "the installed edged says another version"
! "$root/usr/bin/edged" install --root "$root" > "$work/said" 2>&1 && grep -q apt "$work/said" ||
  fail "edged install goes over a package"
# Settings of the boot partition, as a person writes them.
cat > "$root/boot/edged.yaml" <<'YAML'
wifi: {ssid: Home, password: hush hush, country: DE}
ssh-key: ssh-ed25519 AAAAC3 me
YAML
inside chroot "$root" /usr/bin/edged firstboot --boot /boot
rm -r "$root/boot"/*
profile=$root/etc/NetworkManager/system-connections/edged-wifi.nmconnection
[ "$(stat -c %a "$profile")" = 600 ] || fail "the profile of Wi-Fi is not root's alone"
# Its state is on another disk, and somebody has lines of their own in the doctor's files.
echo 'EDGED_DATA_DIR="/mnt/my ssd/edged"' >> "$root/etc/default/edged"
mkdir -p "$root/var/lib/edged" "$root/mnt/my ssd/edged/pki" "$root"/etc/{modules-load,sysctl}.d
touch "$root/mnt/my ssd/edged/pki/board.key"
printf 'i2c-dev\noverlay\n' > "$root/etc/modules-load.d/edged.conf"
printf 'fs.inotify.max_user_watches = 65536\n' > "$root/etc/sysctl.d/90-edged.conf"
package -i "$(deb "$arch")"
package -r edged
[ -e "$root/var/lib/edged/.removed" ] && [ ! -e "$root/usr/bin/edged" ] ||
  fail "a removal keeps the state, and takes the program"
[ -e "$root/mnt/my ssd/edged/pki/board.key" ] || fail "a removal takes the state"
package -P edged
[ "$(cat "$root/etc/modules-load.d/edged.conf")" = i2c-dev ] || fail "the lines of others go"
rm "$root/etc/modules-load.d/edged.conf"
rmdir "$root"/etc/{modules-load,sysctl}.d "$root/mnt/my ssd" "$root/mnt"
same "what is left of it" "$(tree)" "$before"
echo "$arch: installed, upgraded, removed and purged without a rest"
