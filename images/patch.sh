#!/usr/bin/env bash
# Prints the argument that has cargo build our libraries with the patches of images/patches in them:
#
#   cargo … "$(images/patch.sh)"
#
# Each patch is named after a crate and its version, as in Cargo.lock. The crate's source, which
# cargo has fetched and checked against Cargo.lock, is copied to target/patched/ and patched there;
# cargo's `paths` then takes it from there and leaves Cargo.lock as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo=${CARGO:-cargo}
paths=
for patch in images/patches/*.patch; do
  name=$(basename "$patch" .patch)
  from=$("$cargo" metadata --locked --format-version 1 --filter-platform x86_64-unknown-linux-musl |
    grep -o "\"manifest_path\":\"[^\"]*/$name/Cargo.toml\"" | head -1 | cut -d'"' -f4)
  [ -n "$from" ] || { echo "no $name in Cargo.lock: does $patch still matter?" >&2; exit 1; }
  to=target/patched/$name
  # Made anew only when the patch changed: cargo goes by the files' times.
  if ! cmp -s "$patch" "$to/.patch"; then
    rm -rf "$to" && mkdir -p target/patched
    cp -r "$(dirname "$from")" "$to"
    patch -s -p1 -d "$to" <"$patch"
    cp "$patch" "$to/.patch"
  fi
  paths="$paths${paths:+, }\"$to\""
done
echo "--config=paths=[$paths]"
