#!/usr/bin/env bash
# official.sh: fetch kernels built by others, for the loader's tests.
#
# Prints one "NAME PATH" line each for the libkrunfw bundles of two microsandbox
# releases (from npm) and Debian's own bzImage (from apt). Everything is fetched once
# into $XDG_CACHE_HOME/gomsb-peer; none of it is shipped.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/gomsb-peer
package=@superradcompany/microsandbox-linux-x64-gnu
mkdir -p "$cache"
exec 9>"$cache/lock"; flock 9

bundle() { # release, file name
  local dir=$cache/$1/${package##*/} tmp
  if [ ! -f "$dir/package/lib/$2" ]; then
    "$top/hack/setup" npm:npm
    mkdir -p "$dir"; tmp=$(mktemp -d "$dir/tmp.XXXX")
    (cd "$tmp" && npm pack --silent "$package@$1" >/dev/null && tar xzf ./*.tgz)
    rm -rf "$dir/package"; mv "$tmp/package" "$dir/package"; rm -rf "$tmp"
  fi
  echo "${2#libkrunfw.so.} $dir/package/lib/$2"
}

debian() {
  local dir=$cache/debian tmp name
  if [ ! -f "$dir/vmlinuz" ]; then
    mkdir -p "$dir"; tmp=$(mktemp -d "$dir/tmp.XXXX")
    apt-cache show linux-image-amd64 >/dev/null 2>&1 || apt-get update -qq >&2
    name=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image-[0-9]/{print $2; exit}')
    (cd "$tmp" && apt-get -o APT::Sandbox::User=root download -qq "$name" >&2 && dpkg-deb --fsys-tarfile ./*.deb | tar x --wildcards './boot/vmlinuz-*')
    mv "$tmp"/boot/vmlinuz-* "$dir/vmlinuz"; rm -rf "$tmp"
  fi
  echo "debian $dir/vmlinuz"
}

bundle 0.6.18 libkrunfw.so.5.6.1
bundle 0.5.7 libkrunfw.so.5.2.1
debian
