//go:build unix

package reserve

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestCheck(t *testing.T) {
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	kept := min(limit.Cur/4, most)
	for fd, want := range map[uint64]error{3: nil, limit.Cur - kept - 1: nil, limit.Cur - kept: ErrSpent, limit.Cur - 1: ErrSpent} {
		assert.Equal(t, want, Check(int(fd)), "%d of %d", fd, limit.Cur)
	}
	assert.ErrorIs(t, ErrSpent, unix.EMFILE)
}

// TestSocket fills the process's table up to the reserve. It changes the process's limit,
// so that it cannot run beside others.
func TestSocket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	d := net.Dialer{Control: Socket}
	c, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, c.Close())

	var old unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	low := old
	low.Cur = 100
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old)) }()
	var open []net.Conn
	for err = nil; err == nil && len(open) < 200; {
		if c, err = d.DialContext(t.Context(), "tcp", l.Addr().String()); err == nil {
			open = append(open, c)
		}
	}
	assert.ErrorIs(t, err, ErrSpent)
	assert.Less(t, len(open), 75)
	// What is kept is there for others.
	other, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	for _, c := range append(open, other) {
		require.NoError(t, c.Close())
	}
	c, err = d.DialContext(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, c.Close())
}
