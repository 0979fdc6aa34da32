//go:build linux

package hostlink

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (a, b *Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	a, b = Adopt(fds[0]), Adopt(fds[1])
	t.Cleanup(func() {
		_ = a.Close()
		_ = b.Close()
	})
	return a, b
}

func TestConnect(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	to := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: l.Addr().(*net.TCPAddr).Port}
	dial := func() (int, error) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fd, connect(fd, to)
	}
	fd, err := dial()
	require.NoError(t, err)
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	require.NoError(t, err)
	assert.Zero(t, flags&unix.O_NONBLOCK, "later calls block")
	c, err := l.Accept()
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.NoError(t, l.Close())
	_, err = dial()
	assert.ErrorIs(t, err, unix.ECONNREFUSED)
}

func TestStream(t *testing.T) {
	t.Parallel()
	for name, async := range map[string]bool{"blocking": false, "poller": true} {
		a, b := pair(t)
		if async {
			require.NoError(t, a.Async())
			require.NoError(t, b.Async())
		}
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		var wg sync.WaitGroup
		wg.Go(func() {
			n, err := a.Write(data)
			assert.NoError(t, err, name)
			assert.Equal(t, len(data), n, name)
			assert.NoError(t, a.CloseWrite(), name)
		})
		got, err := io.ReadAll(b)
		require.NoError(t, err, name)
		wg.Wait()
		assert.True(t, bytes.Equal(data, got), name)
		_, err = b.Write([]byte("the other half is open"))
		require.NoError(t, err, name)
		require.NoError(t, b.Close())
		_, err = a.Write([]byte("x"))
		require.ErrorIs(t, err, unix.EPIPE, name)
	}
}

func TestReadTimeout(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	require.NoError(t, a.SetReadTimeout(10*time.Millisecond))
	_, err := a.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	_, err = b.Write([]byte("x"))
	require.NoError(t, err)
	n, err := a.Read(make([]byte, 5))
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	// Of no meaning any more with the poller.
	require.NoError(t, a.Async())
	written := make(chan error, 1)
	time.AfterFunc(50*time.Millisecond, func() {
		_, err := b.Write([]byte("y"))
		written <- err
	})
	_, err = a.Read(make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, <-written)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	require.NoError(t, a.Close())
	require.ErrorIs(t, a.Close(), unix.EBADF)
	require.NoError(t, b.Async())
	require.NoError(t, b.Close())
	require.ErrorIs(t, b.Close(), os.ErrClosed)
	require.Error(t, b.CloseWrite())
	closed := Adopt(-1)
	_, err := closed.Read(make([]byte, 1))
	require.ErrorIs(t, err, unix.EBADF)
	_, err = closed.Write([]byte("x"))
	require.ErrorIs(t, err, unix.EBADF)
	require.Error(t, closed.Async())
	require.Error(t, closed.SetReadTimeout(time.Second))
	assert.Equal(t, -1, closed.FD())
}

// No host listens for this test, whatever the machine has of vsock.
func TestDialFails(t *testing.T) {
	t.Parallel()
	_, err := Dial(4294967294)
	require.ErrorContains(t, err, "vsock: ")
}
