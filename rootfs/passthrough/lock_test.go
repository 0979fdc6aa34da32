//go:build linux

package passthrough

import (
	"math"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func locking(c *Config) { c.HostLocks = true }

// lk is a request about a lock.
type lk struct {
	op         opcode
	node, fh   uint64
	owner      uint64
	start, end uint64
	kind       uint32
	whole      bool
}

func (g *guest) lk(l lk) (errno syscall.Errno, again bool, answer []byte) {
	g.t.Helper()
	flags := uint32(0)
	if l.whole {
		flags = lockFlock
	}
	n, again, b := g.try(g.message(l.op, l.node, longs(l.fh, l.owner, l.start, l.end), words(l.kind, 0, flags, 0)), 100)
	if again {
		return 0, true, nil
	}
	return syscall.Errno(-int32(le.Uint32(b[4:]))), false, b[outHeaderSize:n]
}

func TestLocks(t *testing.T) {
	t.Parallel()
	g := share(t, locking)
	f := g.create(rootID, "f", 0o600)
	other, _ := g.open(f.node, unix.O_RDONLY)
	set := func(owner, start, end uint64, kind uint32) syscall.Errno {
		errno, _, _ := g.lk(lk{opSetlk, f.node, f.fh, owner, start, end, kind, false})
		return errno
	}
	require.Zero(t, set(1, 0, 9, unix.F_WRLCK))
	require.Zero(t, set(1, 20, math.MaxInt64, unix.F_RDLCK))
	assert.Equal(t, unix.EAGAIN, set(2, 5, 12, unix.F_RDLCK))
	assert.Zero(t, set(2, 10, 19, unix.F_WRLCK))
	assert.Zero(t, set(2, 30, 40, unix.F_RDLCK))
	errno, _, b := g.lk(lk{opGetlk, f.node, f.fh, 2, 0, 100, unix.F_WRLCK, false})
	assert.Zero(t, errno)
	assert.Equal(t, []uint64{0, 9}, []uint64{le.Uint64(b), le.Uint64(b[8:])})
	assert.EqualValues(t, unix.F_WRLCK, le.Uint32(b[16:]))
	errno, _, b = g.lk(lk{opGetlk, f.node, f.fh, 3, 30, 100, unix.F_RDLCK, false})
	assert.Zero(t, errno)
	assert.EqualValues(t, unix.F_UNLCK, le.Uint32(b[16:]))
	t.Run("the host sees them", func(t *testing.T) {
		h, err := os.OpenFile(g.host("f"), os.O_RDWR, 0)
		require.NoError(t, err)
		defer h.Close()
		l := unix.Flock_t{Type: unix.F_WRLCK, Len: 5}
		assert.Equal(t, unix.EAGAIN, unix.FcntlFlock(h.Fd(), unix.F_OFD_SETLK, &l))
		require.Zero(t, set(1, 0, 9, unix.F_UNLCK))
		assert.NoError(t, unix.FcntlFlock(h.Fd(), unix.F_OFD_SETLK, &l))
		assert.Equal(t, unix.EAGAIN, set(1, 0, 0, unix.F_RDLCK))
	})
	t.Run("an owner that closes the file gives its locks up", func(t *testing.T) {
		require.Zero(t, set(1, 0, 0, unix.F_WRLCK))
		g.ok(opFlush, f.node, longs(f.fh, 0, 1))
		assert.Zero(t, set(2, 0, 0, unix.F_WRLCK))
	})
	t.Run("whole files are another matter", func(t *testing.T) {
		errno, _, _ := g.lk(lk{opSetlk, f.node, f.fh, 7, 0, math.MaxInt64, unix.F_WRLCK, true})
		assert.Zero(t, errno)
		errno, _, _ = g.lk(lk{opSetlk, f.node, other, 8, 0, math.MaxInt64, unix.F_RDLCK, true})
		assert.Equal(t, unix.EAGAIN, errno)
		g.ok(opRelease, f.node, longs(f.fh), words(0, releaseUnflock), longs(7))
		errno, _, _ = g.lk(lk{opSetlk, f.node, other, 8, 0, math.MaxInt64, unix.F_RDLCK, true})
		assert.Zero(t, errno)
	})
	g.release(f.node, other)
	assert.Empty(t, g.s.locks.held, "nothing is held of a file that is open nowhere")
}

// TestWaitForALock puts the request aside, until it can have the lock or is interrupted.
func TestWaitForALock(t *testing.T) {
	t.Parallel()
	g := share(t, locking)
	f := g.create(rootID, "f", 0o600)
	want := lk{opSetlkw, f.node, f.fh, 2, 0, 9, unix.F_WRLCK, false}
	hold := lk{opSetlk, f.node, f.fh, 1, 0, 9, unix.F_WRLCK, false}
	errno, _, _ := g.lk(hold)
	require.Zero(t, errno)
	_, again, _ := g.lk(want)
	assert.True(t, again)
	_, again, _ = g.lk(want)
	assert.True(t, again)
	g.unique.Add(^uint64(0)) // the same request is tried again
	hold.kind = unix.F_UNLCK
	errno, _, _ = g.lk(hold)
	require.Zero(t, errno)
	errno, again, _ = g.lk(want)
	assert.Zero(t, errno)
	assert.False(t, again)

	third := want
	third.owner = 3
	m := g.message(opSetlkw, f.node, longs(f.fh, 3, 0, 9), words(unix.F_WRLCK, 0, 0, 0))
	_, again, _ = g.try(m, 100)
	require.True(t, again)
	assert.Empty(t, g.send(g.message(opInterrupt, 0, longs(le.Uint64(m[8:]))), 100))
	assert.Empty(t, g.send(g.message(opInterrupt, 0, longs(123456789)), 100), "of a request that nobody knows")
	_, again, out := g.try(m, 100)
	assert.False(t, again)
	assert.EqualValues(t, -int32(unix.EINTR), int32(le.Uint32(out[4:])))
	g.s.Reset()
	assert.Empty(t, g.s.locks.held)
	assert.Empty(t, g.s.locks.waiting)
}

func TestLocksThatMakeNoSense(t *testing.T) {
	t.Parallel()
	g := share(t, locking)
	f := g.create(rootID, "f", 0o600)
	d := g.mkdir(rootID, "d", 0o755)
	for _, op := range []opcode{opGetlk, opSetlk, opSetlkw} {
		for _, c := range []struct {
			l    lk
			want syscall.Errno
		}{
			{lk{op, f.node, f.fh, 1, 1 << 63, math.MaxUint64, unix.F_WRLCK, false}, unix.EINVAL},
			{lk{op, f.node, f.fh, 1, 10, 9, unix.F_WRLCK, false}, unix.EINVAL},
			{lk{op, f.node, f.fh, 1, 0, 9, 3, false}, unix.EINVAL},
			{lk{op, f.node, f.fh, 1, 0, 9, 0xffff0000, true}, unix.EINVAL},
			{lk{op, f.node, 999, 1, 0, 9, unix.F_WRLCK, false}, unix.EBADF},
			{lk{op, d.node, f.fh, 1, 0, 9, unix.F_WRLCK, false}, unix.EBADF},
		} {
			errno, again, _ := g.lk(c.l)
			assert.Equal(t, c.want, errno, "%+v", c.l)
			assert.False(t, again)
		}
	}
	for owner := range uint64(maxLocks + 10) {
		errno, _, _ := g.lk(lk{opSetlk, f.node, f.fh, owner, owner, owner, unix.F_WRLCK, false})
		if owner >= maxLocks {
			assert.Equal(t, unix.ENOLCK, errno)
		} else {
			require.Zero(t, errno)
		}
	}
	local := share(t, nil)
	f = local.create(rootID, "f", 0o600)
	errno, _, _ := local.lk(lk{opSetlk, f.node, f.fh, 1, 0, 9, unix.F_WRLCK, false})
	assert.Equal(t, unix.ENOSYS, errno, "the guest has its own locks")
}
