//go:build linux

package files

import (
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// Most of the package is tested through the protocol, by package serve.

func TestOpenFlags(t *testing.T) {
	t.Parallel()
	for bits := range 64 {
		o := proto.FSOpenOptions{
			Read: bits&1 != 0, Write: bits&2 != 0, Append: bits&4 != 0,
			Create: bits&8 != 0, Truncate: bits&16 != 0, CreateNew: bits&32 != 0,
		}
		flags, err := openFlags(o)
		writes := o.Write || o.Append
		bad := !o.Read && !writes || !writes && (o.Create || o.Truncate || o.CreateNew) || o.Append && o.Truncate && !o.CreateNew
		if bad {
			assert.ErrorIs(t, err, unix.EINVAL, "%+v", o)
			continue
		}
		require.NoError(t, err, "%+v", o)
		mode := unix.O_RDONLY
		if writes {
			mode = unix.O_WRONLY
			if o.Read {
				mode = unix.O_RDWR
			}
		}
		assert.Equal(t, mode, flags&unix.O_ACCMODE, "%+v", o)
		assert.Equal(t, o.Append, flags&unix.O_APPEND != 0, "%+v", o)
		assert.Equal(t, o.CreateNew, flags&unix.O_EXCL != 0, "%+v", o)
		assert.Equal(t, o.Create || o.CreateNew, flags&unix.O_CREAT != 0, "%+v", o)
		assert.Equal(t, o.Truncate && !o.CreateNew, flags&unix.O_TRUNC != 0, "%+v", o)
	}
}

func TestHandleNumbersWrap(t *testing.T) {
	t.Parallel()
	s := New()
	open := func() uint64 {
		res, err := s.Do(1, proto.FSOpenDir{Path: "/"})
		require.NoError(t, err)
		return res.Handle
	}
	assert.EqualValues(t, 1, open())
	s.next = 1<<64 - 1
	assert.EqualValues(t, uint64(1<<64-1), open())
	assert.EqualValues(t, 2, open(), "0 is none, 1 is taken")
	s.Drop(proto.SlotRange(0))
	assert.Empty(t, s.handles)
	assert.Empty(t, s.perSlot)
}

func TestFailed(t *testing.T) {
	t.Parallel()
	err := failed("a: ", failed("b: ", unix.ENOENT))
	assert.Equal(t, "a: b: No such file or directory (os error 2)", err.Error())
	require.ErrorIs(t, err, unix.ENOENT)
	assert.Equal(t, "a: EOF", failed("a: ", io.EOF).Error())
	require.NoError(t, wrap("a: ", nil))
}

func TestListed(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "/a", listed("/", "a"))
	assert.Equal(t, "/x/a", listed("/x", "a"))
	assert.Equal(t, "/x/a", listed("/x/", "a"))
	assert.Equal(t, "x/\uFFFD", listed("x", "\xff"))
}

func TestDoRefusesStreams(t *testing.T) {
	t.Parallel()
	_, err := New().Do(1, proto.FSRead{})
	require.ErrorContains(t, err, "Read")
}
