//go:build linux

package agent

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// teardownLimit bounds putting things in order once the data is on the disks, of which
	// none is worth a hang.
	teardownLimit = 5 * time.Second
	// reapLimit is how long killed processes may take to go.
	reapLimit = time.Second
	// initLimit is how long another init may take to shut down.
	initLimit = 5 * time.Second
	// goodbyeLimit is how long the host may take to hear that nothing follows.
	goodbyeLimit = 2 * time.Millisecond
	// sigPowerOff asks systemd to power off: SIGRTMIN+4 of the C libraries it uses.
	sigPowerOff = unix.Signal(38)
)

// teardown ends the machine. orderly is false if something went wrong, which the host
// then learns by the lack of a goodbye.
func (a *agent) teardown(orderly bool) {
	if a.heir {
		a.leave(orderly)
		return
	}
	_ = unix.Kill(-1, unix.SIGKILL)
	a.reaper.WaitIdle(reapLimit)
	unix.Sync() // takes what it takes: the host waits as long as its disks are written to
	done := make(chan struct{})
	go func() {
		defer close(done)
		unmountAll()
		settle(a.upper)
	}()
	select {
	case <-done:
	case <-time.After(teardownLimit):
	}
	if orderly {
		a.goodbye()
	}
	endMachine()
}

// leave makes the program that is PID 1 shut the guest down.
func (a *agent) leave(orderly bool) {
	unix.Sync()
	if orderly {
		a.goodbye()
		if unix.Kill(1, sigPowerOff) == nil {
			time.Sleep(initLimit)
			if hasSystemd() { // it is at it: a frozen file system would hold it up for good
				unix.Sync()
				return
			}
		}
	}
	unmountAll()
	settle(a.upper)
	_ = unix.Kill(1, unix.SIGTERM)
}

// hasSystemd reports whether PID 1 is systemd, as sd_booted(3) finds out.
func hasSystemd() bool {
	var st unix.Stat_t
	return unix.Lstat("/run/systemd/system", &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// goodbye tells the host that the guest ends on purpose.
func (a *agent) goodbye() {
	if host := a.host.Load(); host != nil && host.CloseWrite() == nil {
		time.Sleep(goodbyeLimit) // until the device has it
	}
}

// skipped are the file systems that teardown leaves alone: they hold nothing to save.
var skipped = []string{
	"autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
	"fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "ramfs", "rootfs", "securityfs", "selinuxfs",
	"sysfs", "tmpfs", "tracefs",
}

// unmountAll unmounts what it can, the latest first, and settles the rest.
func unmountAll() {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return
	}
	targets := parseMounts(string(text))
	for _, target := range slices.Backward(targets) {
		if target != "/" && unix.Unmount(target, 0) == nil {
			continue
		}
		if fd, err := unix.Open(target, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0); err == nil {
			settle(fd)
			_ = unix.Close(fd)
		}
	}
}

// parseMounts returns the mount points that hold data, in the order of mounting.
func parseMounts(text string) []string {
	var targets []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) >= 3 && !slices.Contains(skipped, f[2]) {
			targets = append(targets, unescape(f[1]))
		}
	}
	return targets
}

// unescape decodes the \ooo of mount tables.
func unescape(s string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 || i+4 > len(s) {
			return b.String() + s
		}
		n, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
		if err != nil {
			b.WriteString(s[:i+1])
			s = s[i+1:]
			continue
		}
		b.WriteString(s[:i])
		b.WriteByte(byte(n))
		s = s[i+4:]
	}
}

// freeze is FIFREEZE of linux/fs.h, _IOWR('X', 119, int).
const freeze = 0xc0045877

// settle leaves the file system of an open directory as an unmount would: read-only with
// an empty journal, or frozen, which is the same on the disk, if a process is still
// writing to it. It does not go by a path: none leads to the writable layer of a root.
func settle(fd int) {
	if fd < 0 {
		return
	}
	if unix.Mount("", "/proc/self/fd/"+strconv.Itoa(fd), "", unix.MS_REMOUNT|unix.MS_RDONLY, "") != nil {
		_ = unix.IoctlSetInt(fd, freeze, 0) // not all file systems can
	}
}

// endMachine resets the machine. The keyboard controller's reset line is the shortest
// way; the kernel's own way shuts devices down first, for which there is no need.
func endMachine() {
	pulseReset()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	os.Exit(1) // the kernel panics, which ends the machine too
}
