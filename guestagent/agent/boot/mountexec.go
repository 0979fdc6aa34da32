//go:build linux

package boot

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// execute mounts everything in order.
func (p mountPlan) execute(restricted bool) error {
	for _, m := range p {
		if restricted {
			m.flags |= unix.MS_NOSUID | unix.MS_NODEV
		}
		if err := m.execute(); err != nil {
			return fail(KindMount, "mount on "+m.target, err)
		}
	}
	return nil
}

func (m *mount) execute() error {
	if m.kind == fileMount {
		return m.bindFile()
	}
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	switch m.kind {
	case dirMount:
		return share(m.tag, m.target, m.flags)
	case diskMount:
		device, err := findDisk("/sys/block", m.tag)
		if err != nil {
			return err
		}
		return mountDevice(device, m.target, m.fstype, m.flags, dataFor(m.fstype, m.flags, ""))
	}
	return unix.Mount("tmpfs", m.target, "tmpfs", m.flags, m.data)
}

// share mounts a directory of the host.
func share(tag, target string, flags uintptr) error {
	err := unix.Mount(tag, target, "virtiofs", flags, "")
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("the host shares no directory with the tag %q: %w", tag, err)
	}
	return err
}

const stagingDir = runtimeDir + "/file-mounts"

// bindFile mounts one file of a share: the share on a staging directory, the file from
// there on its target, and the staging directory away again.
func (m *mount) bindFile() (err error) {
	stage := stagingDir + "/" + strings.ReplaceAll(m.tag, "/", "_")
	if err := os.MkdirAll(stage, 0o755); err != nil {
		return err
	}
	defer func() {
		_ = unix.Rmdir(stage)
		_ = unix.Rmdir(stagingDir) // fails while another file is being mounted
	}()
	if err := share(m.tag, stage, m.flags); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Unmount(stage, unix.MNT_DETACH)) }()
	if err := os.MkdirAll(path.Dir(m.target), 0o755); err != nil {
		return err
	}
	fd, err := unix.Open(m.target, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o644)
	if err == nil {
		err = unix.Close(fd)
	}
	if err != nil && !errors.Is(err, unix.EISDIR) {
		// On a read-only file system the target can still be there.
		if _, serr := os.Stat(m.target); serr != nil {
			return fmt.Errorf("make the mount point: %w", err)
		}
	}
	if err := unix.Mount(stage+"/"+m.filename, m.target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.Mount("", m.target, "", m.flags|unix.MS_BIND|unix.MS_REMOUNT, "")
}

const (
	diskTries = 20
	diskPause = 10 * time.Millisecond
)

// findDisk returns the device of the virtio disk with a serial, which may just be
// appearing.
func findDisk(sysBlock, serial string) (device string, err error) {
	for range diskTries {
		names, err := os.ReadDir(sysBlock)
		if err != nil {
			return "", err
		}
		for _, e := range names {
			if !strings.HasPrefix(e.Name(), "vd") {
				continue
			}
			text, err := os.ReadFile(sysBlock + "/" + e.Name() + "/serial")
			if err == nil && strings.TrimSpace(string(text)) == serial {
				return "/dev/" + e.Name(), nil
			}
		}
		time.Sleep(diskPause)
	}
	return "", fmt.Errorf("no disk has the serial %q", serial)
}
