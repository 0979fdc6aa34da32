#!/usr/bin/env bash
# boot.sh: boot the guest kernel under QEMU's microvm machine (emulated CPUs, no KVM
# needed) and check what sandboxes rely on.
#
#   boot.sh [VMLINUX] [WORD...]   default: the embedded kernel; WORDs go to its command line
#
# Prints the guest's report, the time from QEMU's start to the reset, and fails if a
# check does. A second boot panics on purpose and must reach port 0x505 and reset.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
"$top/hack/setup" qemu-system-x86:qemu-system-x86_64 busybox-static:busybox erofs-utils:mkfs.erofs e2fsprogs:mkfs.ext4 zstd:zstd
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
PATH=$PATH:/usr/sbin:/sbin

kernel=${1:-}; shift || true
if [ -z "$kernel" ]; then
  kernel=$tmp/vmlinux
  zstd -dq --long=25 "$top/kernel/vmlinux-amd64.zst" -o "$kernel"
fi

mkdir -p "$tmp"/root/{bin,dev,proc,sys,tmp}
cp "$(command -v busybox)" "$tmp/root/bin/busybox"
cat >"$tmp/root/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sysfs /sys; $b mount -t tmpfs tmpfs /tmp
check() { name=$1; shift; if "$@" >/tmp/out 2>&1; then echo "ok $name"; else echo "FAIL $name: $($b cat /tmp/out)"; fi; }
fs() { $b grep -qw "$1" /proc/filesystems; }
overlay() {
  $b mkdir -p /tmp/e && $b mount -t ext4 /dev/vdb /tmp/e && $b mkdir -p /tmp/e/u /tmp/e/w /tmp/o &&
    $b mount -t overlay -o lowerdir=/bin,upperdir=/tmp/e/u,workdir=/tmp/e/w overlay /tmp/o &&
    echo new >/tmp/o/new && [ -f /tmp/e/u/new ] && $b cmp /tmp/o/busybox /bin/busybox && $b rm /tmp/o/busybox && [ -c /tmp/e/u/busybox ]
}
cgroups() {
  $b mkdir -p /tmp/cg && $b mount -t cgroup2 none /tmp/cg &&
    for c in cpuset cpu io memory pids hugetlb misc; do $b grep -qw $c /tmp/cg/cgroup.controllers || return 1; done
}
option() { for o; do $b zcat /proc/config.gz | $b grep -q "^CONFIG_$o=y" || { echo "no $o"; return 1; }; done; }
for d in vsock hwrng fuse net/tun loop-control hvc0 vda vdb; do check "/dev/$d" [ -e /dev/$d ]; done
for f in erofs ext4 overlay fuse virtiofs tmpfs cgroup2 bpf autofs vfat mqueue; do check "file system $f" fs $f; done
check "two processors" [ "$($b grep -c ^processor /proc/cpuinfo)" = 2 ]
check "overlay over erofs and ext4" overlay
check "control groups" cgroups
check "namespaces" $b unshare -U -r -m -p -n -i -u -f $b true
check "vsock transport" option VIRTIO_VSOCKETS VSOCKETS
check "options" option TMPFS_XATTR TMPFS_POSIX_ACL EROFS_FS_XATTR PAGE_REPORTING DEVTMPFS_MOUNT BLK_DEV_INITRD SECCOMP_FILTER IO_URING SECURITY_LANDLOCK BPF_SYSCALL VIRTIO_MEM PTP_1588_CLOCK_KVM NF_TABLES NFT_COMPAT IP_MULTIPLE_TABLES BRIDGE VETH WIREGUARD INET_DIAG_DESTROY
check "only the interfaces asked for" [ "$(echo $($b ls /sys/class/net))" = "eth0 lo" ]
check "256 words for init" [ "$(eval echo \$word200)" = yes ]
echo "release $($b uname -r), init after $($b cut -d' ' -f1 /proc/uptime) s"
$b grep -q then-panic /proc/cmdline && echo c >/proc/sysrq-trigger
$b reboot -f
INIT
chmod +x "$tmp/root/init"
mkfs.erofs "$tmp/root.erofs" "$tmp/root" >/dev/null 2>&1
truncate -s 16M "$tmp/ext4.img"; mkfs.ext4 -q -F "$tmp/ext4.img"

words=''
for n in $(seq 200); do words+=" word$n=yes"; done
line="root=/dev/vda rootfstype=erofs ro init=/init console=hvc0 quiet panic=-1 reboot=k tsc=reliable no_timer_check noreplace-smp sysfs_slim pvpanic=0x505 dummy.numdummies=0"

boot() { # more words; QEMU exits with 1 if the pvpanic device hears of a panic
  timeout 300 qemu-system-x86_64 -M microvm,acpi=off,auto-kernel-cmdline=on,isa-serial=off,rtc=off -accel tcg -cpu max -smp 2 -m 256 \
    -nodefaults -no-user-config -display none -no-reboot -kernel "$kernel" -append "$line $*$words" \
    -device virtio-serial-device -chardev stdio,id=c -device virtconsole,chardev=c \
    -drive if=none,id=a,format=raw,readonly=on,file="$tmp/root.erofs" -device virtio-blk-device,drive=a \
    -drive if=none,id=b,format=raw,file="$tmp/ext4.img" -device virtio-blk-device,drive=b \
    -netdev user,id=n -device virtio-net-device,netdev=n -device virtio-rng-device -device virtio-balloon-device \
    -device pvpanic,ioport=0x505 -action panic=exit-failure </dev/null
}

start=$(date +%s%N)
boot "$*" | tr -d '\r' | tee "$tmp/report"
echo "reset after $((($(date +%s%N) - start) / 1000000)) ms"
if grep -q '^FAIL' "$tmp/report" || ! grep -q '^release ' "$tmp/report"; then exit 1; fi

code=0; boot then-panic >"$tmp/report" || code=$?
if [ $code != 1 ] || ! grep -q 'Kernel panic - not syncing: sysrq' "$tmp/report"; then
  echo "FAIL panic notice: exit code $code"; exit 1
fi
echo "ok panic notice"
