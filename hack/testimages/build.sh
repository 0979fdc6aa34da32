#!/usr/bin/env bash
# build.sh: make the images that tests load, once, and print the folder they are in.
#
#   build.sh mini      mini.tar         docker archive, one plain layer: busybox, static
#                      mini-oci.tar     the same as an OCI layout, gzip layer
#   build.sh iperf     iperf.tar        docker archive, two plain layers: mini's, and iperf3 with its libraries
#   build.sh debian    debian.tar       docker archive, two plain layers: Debian with python3,
#                                       file capabilities; whiteouts and an opaque directory above
#                      debian-oci.tar   the same as an OCI layout, zstd layers, behind an index
#                                       that offers another platform first
#   build.sh layered   layered.tar      docker archive, 15 plain layers: Debian with python3 and node, whose
#                                       layers hide, replace and link to what is in those below
#                      layered-oci.tar  the same as an OCI layout, gzip layers
#   build.sh clients   clients.tar      docker archive, one plain layer: Debian with python3, pip, requests,
#                                       websockets, node, npm, git, sqlite3, curl, wget, ssh, dig, ping
#   build.sh systemd   systemd.tar      docker archive, one plain layer: Debian with systemd, and little else
#   build.sh scratch   scratch.tar      docker archive: one static program, /echo, and nothing else
#   build.sh hostile   hostile.tar      docker archive, three layers of all that a tar file can
#                                       hold and a root file system must show faithfully
#
# The images are named mini:latest, debian:latest and so on. They are kept below
# ${XDG_CACHE_HOME:-$HOME/.cache}/gomsb-test/images in a folder named after the contents
# of their recipe, so a changed recipe builds anew. Needs root for debian (owners and
# capabilities), and Debian packages, which hack/setup installs if they are missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

mini() {
  "$here/../setup" busybox-static:busybox python3-minimal:python3 >&2
  local root=$work/mini a
  mkdir -p "$root"/{bin,dev,etc,proc,root,sys,usr/bin,var}
  mkdir -m 1777 "$root/tmp"
  chmod 700 "$root/root"
  cp "$(command -v busybox)" "$root/bin/busybox"
  for a in $(busybox --list); do [ "$a" = busybox ] || ln -s busybox "$root/bin/$a"; done
  echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
  printf 'guest:x:1000:1000:guest:/tmp:/bin/sh\n' >>"$root/etc/passwd"
  printf 'root:x:0:\nguest:x:1000:\n' >"$root/etc/group"
  tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@1600000000 -C "$root" -cf "$work/mini.layer" .
  python3 "$here/pack.py" mini:latest "$work" mini "$work/mini.layer"
  gzip -nk "$work/mini.layer"
  python3 "$here/pack.py" --oci gzip mini:latest "$work" mini-oci "$work/mini.layer"
}

iperf() {
  "$here/../setup" iperf3:iperf3 >&2
  mini
  rm "$work"/mini*.tar
  local f
  for f in $(command -v iperf3) $(ldd "$(command -v iperf3)" | grep -o '/[^ ]*'); do install -D "$f" "$work/iperf$f"; done
  tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@1600000000 -C "$work/iperf" -cf "$work/iperf.layer" .
  python3 "$here/pack.py" iperf:latest "$work" iperf "$work/mini.layer" "$work/iperf.layer"
}

debian() {
  "$here/../setup" mmdebstrap:mmdebstrap python3-minimal:python3 zstd:zstd >&2
  local suite
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  SOURCE_DATE_EPOCH=1600000000 mmdebstrap --quiet --variant=minbase \
    --include=python3,ca-certificates,curl,git,iproute2,iputils-ping,libcap2-bin,procps \
    --customize-hook='rm -rf "$1"/var/cache/apt/*' "$suite" "$work/debian.tar" >&2
  mv "$work/debian.tar" "$work/base.layer"
  python3 "$here/pack.py" --changes "$work/changes.layer"
  python3 "$here/pack.py" debian:latest "$work" debian "$work/base.layer" "$work/changes.layer"
  zstd -q -3 -k --suffix=.zst "$work/base.layer" "$work/changes.layer" 2>/dev/null ||
    for l in base changes; do zstd -q -3 "$work/$l.layer" -o "$work/$l.layer.zst"; done
  python3 "$here/pack.py" --oci zstd debian:latest "$work" debian-oci "$work/base.layer" "$work/changes.layer"
}

layered() {
  "$here/../setup" mmdebstrap:mmdebstrap python3-minimal:python3 >&2
  local suite layers
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  SOURCE_DATE_EPOCH=1600000000 mmdebstrap --quiet --variant=minbase --include=python3,nodejs,iputils-ping,libcap2-bin \
    --customize-hook='rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*' "$suite" "$work/full.tar" >&2
  python3 "$here/layered.py" "$work/full.tar" "$work"
  layers=("$work"/layered.*.layer)
  python3 "$here/pack.py" layered:latest "$work" layered "${layers[@]}"
  gzip -nk1 "${layers[@]}"
  python3 "$here/pack.py" --oci gzip layered:latest "$work" layered-oci "${layers[@]}"
}

clients() {
  "$here/../setup" mmdebstrap:mmdebstrap python3-minimal:python3 npm:npm >&2
  local suite
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  # Debian's npm would bring 400 packages, and a compiler's headers.
  (cd "$work" && npm pack --silent npm@10.9.4 >/dev/null && mkdir -p npm/usr/lib/node_modules npm/usr/bin && tar -xzf npm-*.tgz -C npm/usr/lib/node_modules)
  mv "$work"/npm/usr/lib/node_modules/{package,npm}
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$work/npm/usr/bin/npm"
  SOURCE_DATE_EPOCH=1600000000 mmdebstrap --quiet --variant=minbase \
    --include=bind9-dnsutils,ca-certificates,curl,git,iproute2,iputils-ping,nodejs,openssh-client,procps,python3-pip,python3-requests,python3-websockets,sqlite3,wget \
    --customize-hook='rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*' --customize-hook="sync-in $work/npm /" "$suite" "$work/base.tar" >&2
  mv "$work/base.tar" "$work/clients.layer"
  python3 "$here/pack.py" clients:latest "$work" clients "$work/clients.layer"
}

systemd() {
  "$here/../setup" mmdebstrap:mmdebstrap python3-minimal:python3 >&2
  local suite
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  # Nothing like udev tells this systemd of the console: it would wait for it.
  SOURCE_DATE_EPOCH=1600000000 mmdebstrap --quiet --variant=essential --include=systemd-sysv \
    --customize-hook='ln -s /dev/null "$1"/etc/systemd/system/serial-getty@hvc0.service' \
    --customize-hook='rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/usr/share/doc "$1"/usr/share/locale "$1"/usr/share/man' \
    "$suite" "$work/base.tar" >&2
  mv "$work/base.tar" "$work/systemd.layer"
  python3 "$here/pack.py" systemd:latest "$work" systemd "$work/systemd.layer"
}

scratch() {
  "$here/../setup" busybox-static:busybox python3-minimal:python3 >&2
  python3 "$here/crafted.py" scratch "$work" "$(command -v busybox)"
}

hostile() {
  "$here/../setup" python3-minimal:python3 >&2
  python3 "$here/crafted.py" hostile "$work"
}

recipe=("$here/build.sh" "$here/pack.py")
case ${1:-} in
  mini | debian) files=("$1-oci.tar" "$1.tar") ;;
  layered) files=("$1-oci.tar" "$1.tar") recipe+=("$here/layered.py") ;;
  clients | iperf | systemd) files=("$1.tar") ;;
  scratch | hostile) files=("$1.tar") recipe+=("$here/crafted.py") ;;
  *) sed -n '2,26s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
out=${XDG_CACHE_HOME:-$HOME/.cache}/gomsb-test/images/$(cat "${recipe[@]}" | sha256sum | cut -c1-16)
mkdir -p "$out"
exec 9>"$out/.lock"
flock 9
if [ ! -f "$out/$1.tar" ]; then
  work=$(mktemp -d "$out/work.XXXX")
  trap 'rm -rf "$work"' EXIT
  "$1"
  for f in "${files[@]}"; do mv "$work/$f" "$out/"; done
fi
echo "$out"
