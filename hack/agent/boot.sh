#!/usr/bin/env bash
# boot.sh: boot the guest agent as PID 1 under QEMU's microvm machine (emulated CPUs, no
# KVM needed) and check what only a real guest shows. QEMU has no vsock of its own, so
# the agent's stream goes over ports of the virtio console.
#
#   boot.sh [device|tmpfs|disk|handoff|broken]...   the root file systems to try; default: all
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
"$top/hack/setup" qemu-system-x86:qemu-system-x86_64 busybox-static:busybox erofs-utils:mkfs.erofs e2fsprogs:mkfs.ext4 zstd:zstd
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
PATH=$("$top/hack/setup" go):$PATH:/usr/sbin:/sbin
cd "$top"

zstd -dq --long=25 kernel/vmlinux-amd64.zst -o "$tmp/vmlinux"
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$tmp/init" ./hack/agent/serialagent
CGO_ENABLED=0 go run ./hack/agent/pack -erofs "$tmp/agent.erofs" "$tmp/init"
CGO_ENABLED=0 go build -o "$tmp/drive" ./hack/agent/drive

root=$tmp/root
mkdir -p "$root"/{bin,etc,root} "$root/run"
cp "$(command -v busybox)" "$root/bin/busybox"
for a in $(busybox --list); do [ "$a" = busybox ] || ln -s busybox "$root/bin/$a"; done
printf 'root:x:0:0::/root:/bin/sh\nguest:x:1000:1000::/tmp:/bin/sh\n' >"$root/etc/passwd"
ln -s ../run/nowhere/resolv.conf "$root/etc/resolv.conf"
echo image >"$root/from-image"
cat >"$root/bin/my-init" <<'INIT'
#!/bin/sh
trap '/bin/reboot -f' 38
echo $MINE $PWD >/tmp/my-init
while :; do sleep 0.2; done
INIT
chmod +x "$root/bin/my-init"
mkfs.erofs "$tmp/lower.erofs" "$root" >/dev/null 2>&1

boot() {
  rm -f "$tmp/upper.img" "$tmp"/*.sock; truncate -s 64M "$tmp/upper.img"
  if [ "$1" = disk ]; then mkfs.ext4 -q -F -d "$root" "$tmp/upper.img"; else mkfs.ext4 -q -F "$tmp/upper.img"; fi
  timeout 180 qemu-system-x86_64 -M microvm,acpi=off,auto-kernel-cmdline=on,isa-serial=off,rtc=off -accel tcg -cpu max -smp "${CPUS:-2}" -m 256 \
    -nodefaults -no-user-config -display none -no-reboot -kernel "$tmp/vmlinux" \
    -append "root=/dev/vdc rootfstype=erofs ro init=/init console=hvc0 quiet panic=-1 reboot=k tsc=reliable no_timer_check noreplace-smp sysfs_slim dummy.numdummies=0" \
    -device virtio-serial-device -chardev file,id=c,path="$tmp/console" -device virtconsole,chardev=c,nr=0 \
    -chardev socket,id=a,path="$tmp/agent.sock",server=on,wait=on -device virtserialport,chardev=a,nr=1 \
    -chardev socket,id=h,path="$tmp/beat.sock",server=on,wait=on -device virtserialport,chardev=h,nr=2 \
    -drive if=none,id=vda,format=raw,readonly=on,file="$tmp/lower.erofs" -device virtio-blk-device,drive=vda \
    -drive if=none,id=vdb,format=raw,file="$tmp/upper.img" -device virtio-blk-device,drive=vdb \
    -drive if=none,id=vdc,format=raw,readonly=on,file="$tmp/agent.erofs" -device virtio-blk-device,drive=vdc \
    -netdev user,id=n,net=10.0.2.0/24 -device virtio-net-device,netdev=n </dev/null &
  local qemu=$! ok=0
  "$tmp/drive" "$tmp/agent.sock" "$tmp/beat.sock" "$1" || ok=1
  [ $ok = 0 ] || kill $qemu
  wait $qemu || ok=1
  cat "$tmp/console"
  [ $ok = 0 ] || { echo "FAIL $1"; exit 1; }
}

for mode in "${@:-device}"; do echo "--- $mode"; boot "$mode"; done
if [ $# = 0 ]; then
  # The writable layer was left clean.
  dumpe2fs -h "$tmp/upper.img" 2>/dev/null | grep '^Filesystem state: *clean$' || { echo "FAIL the writable layer is not clean"; exit 1; }
  if dumpe2fs -h "$tmp/upper.img" 2>/dev/null | grep -q needs_recovery; then echo "FAIL the journal was not settled"; exit 1; fi
  for mode in tmpfs disk handoff broken; do echo "--- $mode"; boot "$mode"; done
fi
