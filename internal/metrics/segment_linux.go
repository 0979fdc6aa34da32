package metrics

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// shmDir is where Linux keeps POSIX shared memory.
const shmDir = "/dev/shm"

// openSegment opens the file behind a segment. It fails with fs.ErrNotExist if there is
// none, and with ErrOwner if it is not ours.
func openSegment(dir, name string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	switch {
	case err != nil:
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = fmt.Errorf("%w: %s is no regular file", ErrFormat, f.Name())
	case int64(st.Uid) != int64(os.Geteuid()), st.Mode&0o022 != 0:
		err = fmt.Errorf("%w: %s", ErrOwner, f.Name())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// createSegment makes a segment that init fills, unless there is one by then. It appears
// whole, so that nobody waits for a process that was killed half-way.
func createSegment(dir, name string, size int64, init func(words)) error {
	fd, err := unix.Open(dir, unix.O_RDWR|unix.O_TMPFILE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("metrics registry: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { _ = f.Close() }()
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("metrics registry: %w", err)
	}
	mem, err := mapSegment(f, size)
	if err != nil {
		return err
	}
	init(mem)
	if err := unix.Munmap(mem); err != nil {
		return fmt.Errorf("metrics registry: %w", err)
	}
	err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, filepath.Join(dir, name), unix.AT_SYMLINK_FOLLOW)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("metrics registry: %w", err)
	}
	return nil
}

func mapSegment(f *os.File, size int64) (words, error) {
	mem, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the metrics registry: %w", err)
	}
	return mem, nil
}

func unmapSegment(mem words) error { return unix.Munmap(mem) }
