package launch

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrDiskBusy reports a disk image that another machine uses: see [DiskBusyError].
	ErrDiskBusy = errors.New("disk image is in use")
	// ErrDiskTwice reports a disk image that one sandbox names twice.
	ErrDiskTwice = errors.New("a sandbox cannot have the same disk image twice")
)

// DiskUse is a disk image that a machine is about to use.
type DiskUse struct {
	Path     string
	ReadOnly bool
}

// DiskHolder is a process that has a disk image locked.
type DiskHolder struct {
	PID     int
	Sandbox string // empty: it is no runtime of a sandbox
}

// DiskBusyError is the ErrDiskBusy of one disk image.
type DiskBusyError struct {
	DiskUse
	Holders []DiskHolder // as far as this user may know them
}

// Is reports that target is ErrDiskBusy.
func (e *DiskBusyError) Is(target error) bool { return target == ErrDiskBusy }

// Error names the file, who has it, and the way out. It begins as in 0.6.18, whose
// clients look for the words.
func (e *DiskBusyError) Error() string {
	way := "stop it, or give each sandbox a copy of its own"
	if e.ReadOnly {
		way = "stop what writes to it, or attach it read-only there too"
	}
	by := make([]string, 0, len(e.Holders))
	for _, h := range e.Holders {
		who := fmt.Sprintf("process %d", h.PID)
		if h.Sandbox != "" {
			who = fmt.Sprintf("sandbox %s (%s)", h.Sandbox, who)
		}
		by = append(by, who)
	}
	if len(by) == 0 {
		by = append(by, "another process")
	}
	return fmt.Sprintf("disk image %q is already attached with an incompatible disk mode: in use by %s: %s", e.Path, strings.Join(by, " and "), way)
}

// LockDisk opens the disk image at path and locks it, against everybody if it is to be
// written, else against writers. The lock lasts until the file and every copy of it that
// a child process inherited are closed. Nothing waits: if somebody is in the way, the
// error is a [*DiskBusyError]; others are those of the host.
//
// The locks are those of microsandbox 0.6.18: flock(2) on the image itself, taken by the
// controller and inherited by the runtime.
func LockDisk(path string, readOnly bool) (*os.File, error) {
	f, err := tryDisk(path, readOnly)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, &DiskBusyError{DiskUse{path, readOnly}, diskHolders(path)}
	}
	return f, err
}

// tryDisk is LockDisk whose error for a busy disk is EWOULDBLOCK.
func tryDisk(path string, readOnly bool) (*os.File, error) {
	mode, how := os.O_RDWR, unix.LOCK_EX
	if readOnly {
		mode, how = os.O_RDONLY, unix.LOCK_SH
	}
	f, err := os.OpenFile(path, mode|unix.O_NONBLOCK, 0) // a named pipe must not make us wait
	if err != nil {
		return nil, fmt.Errorf("lock disk image: %w", err)
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock disk image %s: %w", path, err), f.Close())
	}
	return f, nil
}

// diskPatience is how long LockDisks tries: a machine that has ended may have its disks
// open for a moment longer than its sandbox's lock, and so has a child process between
// fork and exec.
const diskPatience = 500 * time.Millisecond

// LockDisks locks all disks of a sandbox or none. One that the sandbox names twice is
// [ErrDiskTwice]; other errors are those of [LockDisk].
func LockDisks(disks []DiskUse) (files []*os.File, err error) {
	if err := CheckDisks(disks); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(diskPatience)
	for _, d := range disks {
		f, err := tryDisk(d.Path, d.ReadOnly)
		for wait := time.Millisecond; errors.Is(err, unix.EWOULDBLOCK) && time.Now().Before(deadline); wait *= 2 {
			time.Sleep(wait)
			f, err = tryDisk(d.Path, d.ReadOnly)
		}
		if errors.Is(err, unix.EWOULDBLOCK) {
			f, err = LockDisk(d.Path, d.ReadOnly) // which says who has it
		}
		if err != nil {
			UnlockDisks(files)
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// UnlockDisks closes what LockDisks returned.
func UnlockDisks(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// CheckDisks reports whether one file is among the disks twice, by whatever names.
func CheckDisks(disks []DiskUse) error {
	seen := make([]os.FileInfo, 0, len(disks))
	for _, d := range disks {
		info, err := os.Stat(d.Path)
		if err != nil {
			return fmt.Errorf("disk image: %w", err)
		}
		for i, other := range seen {
			if os.SameFile(info, other) {
				return fmt.Errorf("%w: %s and %s", ErrDiskTwice, disks[i].Path, d.Path)
			}
		}
		seen = append(seen, info)
	}
	return nil
}

// DiskUses are the disk images that the machine will use. The layers of an image are not
// among them: nobody writes to those, and they have locks of their own.
func (c *Config) DiskUses() ([]DiskUse, error) {
	var uses []DiskUse
	if r := c.Rootfs; r.Disk != nil && (r.DiskFormat == nil || *r.DiskFormat != "vmdk") {
		uses = append(uses, DiskUse{*r.Disk, r.DiskReadOnly})
	}
	if c.Rootfs.Upper != nil {
		uses = append(uses, DiskUse{*c.Rootfs.Upper, false})
	}
	for _, s := range c.Disks {
		d, err := ParseDisk(s)
		if err != nil {
			return nil, err
		}
		uses = append(uses, DiskUse{d.Host, d.ReadOnly})
	}
	return uses, nil
}
