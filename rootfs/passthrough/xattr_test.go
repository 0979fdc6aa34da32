//go:build linux

package passthrough

import (
	"bytes"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func (g *guest) setxattr(node uint64, key, value string, flags uint32) syscall.Errno {
	g.t.Helper()
	_, errno := g.call(opSetxattr, node, words(uint32(len(value)), flags), text(key), []byte(value))
	return errno
}

func (g *guest) getxattr(node uint64, key string, n uint32) (string, syscall.Errno) {
	g.t.Helper()
	b, errno := g.call(opGetxattr, node, words(n, 0), text(key))
	return string(b), errno
}

func TestXattr(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	f := g.put(rootID, "f", "x")
	require.Zero(t, g.setxattr(f.node, "user.a", "value", 0))
	require.Zero(t, g.setxattr(f.node, "user.empty", "", 0))
	v, errno := g.getxattr(f.node, "user.a", 100)
	assert.Zero(t, errno)
	assert.Equal(t, "value", v)
	v, errno = g.getxattr(f.node, "user.a", 0)
	assert.Zero(t, errno)
	assert.EqualValues(t, 5, le.Uint32([]byte(v)))
	_, errno = g.getxattr(f.node, "user.a", 4)
	assert.Equal(t, unix.ERANGE, errno)
	v, errno = g.getxattr(f.node, "user.empty", 4)
	assert.Zero(t, errno)
	assert.Empty(t, v)
	assert.Equal(t, unix.EEXIST, g.setxattr(f.node, "user.a", "v", unix.XATTR_CREATE))
	assert.Equal(t, unix.ENODATA, g.setxattr(f.node, "user.b", "v", unix.XATTR_REPLACE))
	assert.Equal(t, unix.EINVAL, g.setxattr(f.node, "user.b", "v", 4))
	b := g.ok(opListxattr, f.node, words(1000, 0))
	assert.ElementsMatch(t, []string{"user.a", "user.empty"}, strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), "the server's own is not listed")
	assert.EqualValues(t, len(b), le.Uint32(g.ok(opListxattr, f.node, words(0, 0))))
	_, errno = g.call(opListxattr, f.node, words(5, 0))
	assert.Equal(t, unix.ERANGE, errno)
	g.ok(opRemovexattr, f.node, text("user.a"))
	_, errno = g.call(opRemovexattr, f.node, text("user.a"))
	assert.Equal(t, unix.ENODATA, errno)
	d := g.mkdir(rootID, "d", 0o755)
	require.Zero(t, g.setxattr(d.node, "user.d", "on a directory", 0))
}

// TestXattrNames of the host's kernel and of the server are not the guest's (N82).
func TestXattrNames(t *testing.T) {
	t.Parallel()
	for _, stat := range []StatMode{StatStrict, StatOff} {
		g := share(t, func(c *Config) { c.Stat = stat })
		f := g.put(rootID, "f", "x")
		require.NoError(t, unix.Setxattr(g.host("f"), "user.msb.override_stat", []byte{1, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 0xa4, 0x81, 0, 0, 0, 0, 0, 0}, 0))
		for key, want := range map[string]syscall.Errno{
			"user.msb.override_stat": unix.EPERM, "user.msb._probe": unix.EPERM, "user.msb.": unix.EPERM,
			"security.capability": unix.EOPNOTSUPP, "security.selinux": unix.EOPNOTSUPP, "trusted.overlay.opaque": unix.EOPNOTSUPP,
			"system.posix_acl_access": unix.EOPNOTSUPP, "system.": unix.EOPNOTSUPP, "user": unix.EOPNOTSUPP, "x": unix.EOPNOTSUPP,
			"": unix.ERANGE, "user." + strings.Repeat("k", 251): unix.ERANGE,
		} {
			assert.Equal(t, want, g.setxattr(f.node, key, "\x01\x00\x00\x02\xff\xff\xff\xff", 0), key)
			_, errno := g.call(opRemovexattr, f.node, text(key))
			assert.Equal(t, want, errno, key)
			if want != unix.ERANGE {
				want = unix.ENODATA
			}
			_, errno = g.getxattr(f.node, key, 1000)
			assert.Equal(t, want, errno, key)
		}
		assert.Empty(t, g.ok(opListxattr, f.node, words(1000, 0)))
		if stat == StatStrict {
			assert.EqualValues(t, 5, g.getattr(f.node).uid)
		}
	}
}

// TestXattrSizes that lie (N82).
func TestXattrSizes(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	f := g.put(rootID, "f", "x")
	for _, c := range []struct {
		size uint32
		body []byte
		want syscall.Errno
	}{
		{6, append(text("user.a"), "value"...), unix.EINVAL},
		{4, append(text("user.a"), "value"...), unix.EINVAL},
		{1 << 31, append(text("user.a"), "value"...), unix.E2BIG},
		{1<<32 - 1, append(text("user.a"), "value"...), unix.E2BIG},
		{maxXattr + 1, append(text("user.a"), make([]byte, maxXattr+1)...), unix.E2BIG},
		{1, []byte("user.a"), unix.EINVAL},
		{0, bytes.Repeat([]byte{'k'}, 70000), unix.ENAMETOOLONG},
	} {
		_, errno := g.call(opSetxattr, f.node, words(c.size, 0), c.body)
		assert.Equal(t, c.want, errno)
	}
	assert.Zero(t, g.setxattr(f.node, "user.a", strings.Repeat("v", 3000), 0))
	v, errno := g.getxattr(f.node, "user.a", 1<<32-1)
	assert.Zero(t, errno)
	assert.Len(t, v, 3000)
	_, errno = g.callRoom(outHeaderSize+2999, opGetxattr, f.node, words(4000, 0), text("user.a"))
	assert.Equal(t, unix.ERANGE, errno, "it says more room than there is")
}
