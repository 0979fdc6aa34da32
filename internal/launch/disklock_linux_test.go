package launch

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func diskImage(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	require.NoError(t, os.WriteFile(path, make([]byte, 512), 0o600))
	return path
}

func TestLockDisk(t *testing.T) {
	t.Parallel()
	const write, read = false, true
	for name, c := range map[string]struct {
		first, second bool
		busy          bool
	}{
		"two writers":       {write, write, true},
		"reader and writer": {read, write, true},
		"writer and reader": {write, read, true},
		"two readers":       {read, read, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := diskImage(t)
			first, err := LockDisk(path, c.first)
			require.NoError(t, err)
			second, err := LockDisk(path, c.second)
			if !c.busy {
				require.NoError(t, err)
				UnlockDisks([]*os.File{first, second})
				return
			}
			require.ErrorIs(t, err, ErrDiskBusy)
			var busy *DiskBusyError
			require.ErrorAs(t, err, &busy)
			assert.Equal(t, DiskUse{path, c.second}, busy.DiskUse)
			assert.Contains(t, busy.Holders, DiskHolder{PID: os.Getpid()})
			assert.Contains(t, err.Error(), path)
			require.NoError(t, first.Close())
			second, err = LockDisk(path, c.second)
			require.NoError(t, err, "who let go is no obstacle")
			require.NoError(t, second.Close())
		})
	}
}

// The official controller's lock, taken with flock and inherited, is seen, and so is ours
// by it.
func TestLockDiskIsAFlock(t *testing.T) {
	t.Parallel()
	path := diskImage(t)
	theirs, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Flock(int(theirs.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	_, err = LockDisk(path, false)
	require.ErrorIs(t, err, ErrDiskBusy)
	require.NoError(t, theirs.Close())

	ours, err := LockDisk(path, true)
	require.NoError(t, err)
	theirs, err = os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	assert.ErrorIs(t, unix.Flock(int(theirs.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
	assert.NoError(t, unix.Flock(int(theirs.Fd()), unix.LOCK_SH|unix.LOCK_NB))
	UnlockDisks([]*os.File{ours, theirs})
}

func TestLockDisks(t *testing.T) {
	t.Parallel()
	a, b := diskImage(t), diskImage(t)
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(a, link))
	_, err := LockDisks([]DiskUse{{a, true}, {link, true}})
	require.ErrorIs(t, err, ErrDiskTwice)

	held, err := LockDisk(b, true)
	require.NoError(t, err)
	_, err = LockDisks([]DiskUse{{a, false}, {b, false}})
	require.ErrorIs(t, err, ErrDiskBusy)
	again, err := LockDisk(a, false)
	require.NoError(t, err, "all or nothing")
	UnlockDisks([]*os.File{held, again})

	_, err = LockDisks([]DiskUse{{a, false}, {"/no/such/disk", false}})
	require.ErrorIs(t, err, os.ErrNotExist)
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	files, err := LockDisks([]DiskUse{{pipe, true}})
	require.NoError(t, err, "opening it does not wait for its other end")
	UnlockDisks(files)
}

// A lock goes to the runtime and stays with it when the controller lets go.
func TestLockOutlivesTheController(t *testing.T) {
	path := diskImage(t)
	files, err := LockDisks([]DiskUse{{path, false}})
	require.NoError(t, err)
	assert.Equal(t, []DiskHolder{{PID: os.Getpid()}}, diskHolders(path))
	o := options(t, "inherits")
	o.Inherit = files
	p, err := Spawn(t.Context(), o)
	require.NoError(t, err)
	UnlockDisks(files)
	assert.Equal(t, []DiskHolder{{PID: p.PID(), Sandbox: "x"}}, diskHolders(path))

	_, err = LockDisks([]DiskUse{{path, true}})
	var busy *DiskBusyError
	require.ErrorAs(t, err, &busy)
	assert.Equal(t, []DiskHolder{{PID: p.PID(), Sandbox: "x"}}, busy.Holders)
	assert.ErrorContains(t, err, "sandbox x (process ")

	require.NoError(t, p.Signal(syscall.SIGKILL))
	<-p.Exited()
	require.NoError(t, p.Close())
	files, err = LockDisks([]DiskUse{{path, false}})
	require.NoError(t, err, "the dead hold nothing")
	UnlockDisks(files)
}

func TestInheritedDisk(t *testing.T) {
	path := diskImage(t)
	assert.Nil(t, InheritedDisk(DiskUse{path, true}))
	assert.Nil(t, InheritedDisk(DiskUse{"/no/such/disk", true}))
	for _, readOnly := range []bool{true, false} {
		f, err := LockDisk(path, readOnly)
		require.NoError(t, err)
		_, err = unix.Dup(int(f.Fd())) // as a child has it: nobody's file
		require.NoError(t, err)
		require.NoError(t, f.Close())
		if readOnly {
			assert.Nil(t, InheritedDisk(DiskUse{path, false}), "a reader's lock does not do for a writer")
		}
		inherited := InheritedDisk(DiskUse{path, readOnly})
		require.NotNil(t, inherited)
		_, err = LockDisk(path, false)
		require.ErrorIs(t, err, ErrDiskBusy)
		UnlockDisks([]*os.File{inherited})
		assert.Empty(t, diskHolders(path), "it was the caller's")
	}
}

func TestDiskBusyError(t *testing.T) {
	t.Parallel()
	nobody := &DiskBusyError{DiskUse: DiskUse{Path: "/d"}}
	assert.EqualError(t, nobody, `disk image "/d" is already attached with an incompatible disk mode: in use by another process: stop it, or give each sandbox a copy of its own`)
	two := &DiskBusyError{DiskUse{"/d", true}, []DiskHolder{{1, "a"}, {2, ""}}}
	assert.EqualError(t, two, `disk image "/d" is already attached with an incompatible disk mode: in use by sandbox a (process 1) and process 2: stop what writes to it, or attach it read-only there too`)
	assert.False(t, errors.Is(two, ErrLocked))
}

func TestDiskUses(t *testing.T) {
	t.Parallel()
	path, format, upper, qcow2 := "/root", "vmdk", "/upper", "qcow2"
	for name, c := range map[string]struct {
		config Config
		want   []DiskUse
	}{
		"image":      {Config{Rootfs: Rootfs{Disk: &path, DiskFormat: &format, Upper: &upper}}, []DiskUse{{"/upper", false}}},
		"disk image": {Config{Rootfs: Rootfs{Disk: &path, DiskFormat: &qcow2}}, []DiskUse{{"/root", false}}},
		"read-only":  {Config{Rootfs: Rootfs{Disk: &path, DiskReadOnly: true}, Disks: []string{"d:/data:raw:ro", "e:/more:qcow2"}}, []DiskUse{{"/root", true}, {"/data", true}, {"/more", false}}},
		"none":       {Config{Rootfs: Rootfs{Path: &path}}, nil},
	} {
		uses, err := c.config.DiskUses()
		require.NoError(t, err, name)
		assert.Equal(t, c.want, uses, name)
	}
	_, err := (&Config{Disks: []string{"d"}}).DiskUses()
	assert.ErrorIs(t, err, ErrMount)
}
