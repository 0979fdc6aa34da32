package netstack

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestSocketPath(t *testing.T) {
	t.Parallel()
	for _, to := range []string{"127.0.0.1:9", "[::1]:9"} {
		c, err := net.Dial("udp", to)
		if err != nil && to[0] == '[' {
			continue // a machine without IPv6
		}
		require.NoError(t, err)
		defer func() { _ = c.Close() }()
		p := socketPath(c).(*udpPath)
		mode := func() (n int) {
			require.NoError(t, p.raw.Control(func(fd uintptr) { n, err = unix.GetsockoptInt(int(fd), p.level, p.discover) }))
			require.NoError(t, err)
			return n
		}
		assert.Equal(t, unix.IP_PMTUDISC_DO, mode(), to)
		require.NoError(t, p.Whole(false))
		assert.Equal(t, unix.IP_PMTUDISC_DONT, mode(), to)
		assert.GreaterOrEqual(t, p.MTU(), minMTU6, to)
	}
	a, b := net.Pipe()
	assert.Nil(t, socketPath(a))
	_, _ = a.Close(), b.Close()
	c, err := net.Dial("udp", "127.0.0.1:9")
	require.NoError(t, err)
	p := socketPath(c)
	require.NoError(t, c.Close())
	assert.Error(t, p.Whole(true))
	assert.Zero(t, p.MTU())
}
