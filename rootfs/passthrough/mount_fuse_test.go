//go:build linux && fuse

package passthrough

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// mounted puts a server behind the FUSE client of this machine's own kernel, with the
// mount options that virtio-fs has, and returns the server and the mount point.
func mounted(t testing.TB, cfg Config) (*Server, string) {
	t.Helper()
	s, err := New(cfg)
	require.NoError(t, err)
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	point := openDir(t)
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", dev)
	require.NoError(t, unix.Mount("share", point, "fuse.share", 0, options))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { carry(s, dev) })
	}
	refusePoll(t, point)
	t.Cleanup(func() {
		require.NoError(t, unix.Unmount(point, unix.MNT_DETACH))
		wg.Wait()
		require.NoError(t, unix.Close(dev))
		require.NoError(t, s.Close())
	})
	return s, point
}

// openDir is a directory that all users reach.
func openDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	return dir
}

// refusePoll lets the kernel find out that the server does not know POLL. Else it would ask
// when the Go runtime adds a file of the mount to its poller, which the runtime does
// without leaving the processor to others, of which the server in the same process may be
// one.
func refusePoll(t testing.TB, point string) {
	t.Helper()
	fd, err := unix.Open(point+"/poll", unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	require.NoError(t, err)
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Close(fd))
	require.NoError(t, unix.Unlink(point+"/poll"))
}

// carry takes requests from the kernel and returns the answers, until the file system is
// unmounted.
func carry(s *Server, dev int) {
	in, out := make([]byte, maxIO+8192), make([]byte, maxIO+8192)
	for {
		n, err := unix.Read(dev, in)
		switch {
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return
		}
		var header [inHeaderSize]byte
		copy(header[:], in)
		m, again := s.Serve(&header, [][]byte{in[:n]}, [][]byte{out}, true)
		if again {
			go func(m []byte) { retry(s, dev, m) }(append([]byte(nil), in[:n]...))
			continue
		}
		if m > 0 {
			_, _ = unix.Write(dev, out[:m]) // fails for a request that was interrupted
		}
	}
}

// retry carries out a request that waits for a lock.
func retry(s *Server, dev int, in []byte) {
	var header [inHeaderSize]byte
	copy(header[:], in)
	out := make([]byte, 4096)
	for {
		unix.Nanosleep(&unix.Timespec{Nsec: 2e6}, nil)
		if m, again := s.Serve(&header, [][]byte{in}, [][]byte{out}, true); !again {
			_, _ = unix.Write(dev, out[:m])
			return
		}
	}
}
