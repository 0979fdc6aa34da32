//go:build linux

package format

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/snapshot/sparse"
)

// restored maps the memory of a checkpoint as a monitor does.
func restored(t *testing.T, c *Checkpoint) Slices {
	t.Helper()
	var mem Slices
	for i, r := range c.Header().Regions {
		b := mapped(t, nil, int(r.Size))
		require.NoError(t, unix.Madvise(b, unix.MADV_NOHUGEPAGE))
		for _, p := range c.Pieces(Range{Offset: c.Offset(i), Length: int64(r.Size)}) {
			for at := p.Offset; ; {
				e, err := sparse.Next(p.File, at, p.End())
				require.NoError(t, err)
				if e.Length == 0 {
					break
				}
				_, err = unix.MmapPtr(int(p.File.Fd()), e.Offset, unsafe.Pointer(&b[e.Offset-c.Offset(i)]), uintptr(e.Length), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED)
				require.NoError(t, err)
				at = e.End()
			}
		}
		mem = append(mem, b)
	}
	return mem
}

// passingAt makes a checkpoint for copies.
func passingAt(t *testing.T, dir string, h Header, mem Memory) *Checkpoint {
	t.Helper()
	d, err := Capture(t.Context(), dir, Passing, h, []byte("state"), mem)
	require.NoError(t, err)
	require.NoError(t, d.Publish(t.Context()))
	return open(t, dir)
}

func assertMemory(t *testing.T, want Slices, c *Checkpoint) {
	t.Helper()
	_, state, got := content(t, c)
	assert.Equal(t, "state", string(state))
	for i := range want {
		assert.True(t, bytes.Equal(want[i], got[i]), "region %d differs", i)
	}
}

// based makes a checkpoint that lasts, of 64 MiB and of three pages, and what a machine
// restored from it has after a while.
func based(t *testing.T, dir string) (*Checkpoint, Slices) {
	h := header(64<<20, 3*PageSize)
	first := Slices{mapped(t, nil, 64<<20), make([]byte, 3*PageSize)}
	for _, at := range []int{0, 10 << 20, 10<<20 + PageSize, 20 << 20, 30 << 20, 40<<20 - 1, 64<<20 - 1} {
		first[0][at] = 7
	}
	first[1][PageSize] = 8
	require.NoError(t, Write(t.Context(), dir, h, []byte("state"), first))
	require.NoError(t, RecordPrefetch(dir, Prefetch{Touched: []Range{{0, 4 * PageSize}}}))
	c := open(t, dir)
	mem := restored(t, c)
	b := mem[0]
	b[10<<20] = 1              // other than in the base
	b[20<<20] = 0              // zeros again
	b[50<<20+5] = 2            // where the base has a hole
	b[50<<20+4*PageSize] = 2   // near that
	b[50<<20+100*PageSize] = 2 // not near
	require.NoError(t, remapAnonymous(b[30<<20:31<<20]))
	b[30<<20+8*PageSize] = 3
	mem[1][0] = 9
	return c, mem
}

func TestLayer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	base, mem := based(t, filepath.Join(dir, "base"))
	h := base.Header()
	h.Kind = Full
	c := passingAt(t, filepath.Join(dir, "first"), h, Based{mem, base})
	assertMemory(t, mem, c)
	assert.Equal(t, []Range{
		{10 << 20, PageSize}, {20 << 20, PageSize}, {30 << 20, PageSize}, {30<<20 + 8*PageSize, PageSize},
		{50 << 20, 5 * PageSize}, {50<<20 + 100*PageSize, PageSize}, {64 << 20, PageSize},
	}, c.machine.layer.own, "what is near is one part, and zeros over a hole are none")
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(int(c.memory.Fd()), &st))
	assert.LessOrEqual(t, st.Blocks*512, int64(9*PageSize), "of the rest it has nothing")
	p, ok := c.Prefetch()
	assert.True(t, ok)
	assert.Equal(t, []Range{{0, 4 * PageSize}}, p.Touched)
	assert.ErrorIs(t, c.Verify(t.Context()), ErrDamaged, "there is nothing to compare with")
	for _, r := range []Range{{0, 64 << 20}, {10 << 20, PageSize}, {10<<20 + PageSize, 5 << 20}, {10<<20 - PageSize, 3 * PageSize}, {64 << 20, 3 * PageSize}, {30<<20 + PageSize, 7 * PageSize}} {
		at := r.Offset
		for _, p := range c.Pieces(r) {
			assert.Equal(t, at, p.Offset)
			assert.Positive(t, p.Length)
			own := slices.ContainsFunc(c.machine.layer.own, func(o Range) bool { return o.Offset <= p.Offset && p.End() <= o.End() })
			assert.Equal(t, own, p.File == c.memory)
			at = p.End()
		}
		assert.Equal(t, r.End(), at)
	}

	// Of a machine that was restored from a layer there is another one, on the same base, and
	// the first need not be there any more.
	child := restored(t, c)
	assert.True(t, bytes.Equal(mem[0], child[0]))
	child[0][10<<20+2*PageSize] = 4
	child[0][30<<20] = 5
	child[0][5<<20] = 6
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "first")))
	second := passingAt(t, filepath.Join(dir, "second"), h, Based{child, c})
	assertMemory(t, child, second)
	assert.Equal(t, filepath.Join(dir, "base", memoryName), second.machine.layer.base)
	assert.Less(t, len(second.machine.layer.own), 12)

	// One that lasts is whole.
	whole := filepath.Join(dir, "whole")
	require.NoError(t, Write(t.Context(), whole, h, []byte("state"), Based{child, c}))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "second")))
	require.NoError(t, os.Rename(filepath.Join(dir, "base"), filepath.Join(dir, "elsewhere")))
	lasting := open(t, whole)
	require.NoError(t, lasting.Verify(t.Context()))
	assertMemory(t, child, lasting)
	require.NoError(t, unix.Fstat(int(lasting.memory.Fd()), &st))
	assert.Less(t, st.Blocks*512, int64(1<<20), "zeros take no space")

	// Without its name nobody can refer to the base.
	third := passingAt(t, filepath.Join(dir, "third"), h, Based{child, c})
	assert.Nil(t, third.base)
	assertMemory(t, child, third)
	grandchild := restored(t, third)
	grandchild[0][1<<20] = 1
	fourth := passingAt(t, filepath.Join(dir, "fourth"), h, Based{grandchild, third})
	assert.NotNil(t, fourth.base, "one that has all can be a base, too")
	assertMemory(t, grandchild, fourth)
	assertOnly(t, dir, "elsewhere", "whole", "third", "fourth")
}

// A machine with other memory than its base has nothing of it.
// TestPassingBase saves a machine as a base, on which the next ones are layers; the one that it
// was itself restored from need not be there any more.
func TestPassingBase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, mem := based(t, filepath.Join(dir, "first"))
	h := first.Header()
	h.Kind = Full
	draft, err := Begin(t.Context(), filepath.Join(dir, "base"), first, PassingBase)
	require.NoError(t, err)
	require.NoError(t, draft.Capture(t.Context(), h, []byte("state"), Based{mem, first}))
	size, err := draft.Size()
	require.NoError(t, err)
	require.NoError(t, draft.Publish(t.Context()))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "first")))
	base := open(t, filepath.Join(dir, "base"))
	assertMemory(t, mem, base)
	assert.ErrorIs(t, base.Verify(t.Context()), ErrDamaged, "there is nothing to compare with")
	again, err := base.BaseSize()
	require.NoError(t, err)
	assert.Equal(t, size, again)
	assert.Positive(t, size)

	goesOn := restored(t, base)
	goesOn[0][40<<20] = 5
	goesOn[1][0] = 6
	d, err := Begin(t.Context(), filepath.Join(dir, "layer"), nil, Passing)
	require.NoError(t, err)
	d.On(base)
	require.NoError(t, d.Capture(t.Context(), h, []byte("state"), Based{goesOn, base}))
	require.NoError(t, d.Publish(t.Context()))
	layer := open(t, filepath.Join(dir, "layer"))
	assertMemory(t, goesOn, layer)
	assert.Equal(t, filepath.Join(dir, "base", memoryName), layer.machine.layer.base)
	assert.Equal(t, []Range{{40 << 20, PageSize}, {64 << 20, PageSize}}, layer.machine.layer.own)
	again, err = layer.BaseSize()
	require.NoError(t, err)
	assert.Equal(t, size, again, "of the base, not of the layer")

	// Without a name that anybody would find the base is of no use, and all is saved.
	require.NoError(t, os.Rename(filepath.Join(dir, "base"), filepath.Join(dir, "elsewhere")))
	_, err = Open(t.Context(), filepath.Join(dir, "layer"))
	assert.ErrorIs(t, err, ErrBase)
	d, err = Begin(t.Context(), filepath.Join(dir, "whole"), nil, Passing)
	require.NoError(t, err)
	d.On(base)
	require.NoError(t, d.Capture(t.Context(), h, []byte("state"), Based{goesOn, base}))
	require.NoError(t, d.Publish(t.Context()))
	whole := open(t, filepath.Join(dir, "whole"))
	assertMemory(t, goesOn, whole)
	assert.Empty(t, whole.machine.layer.base)
}

func TestLayerOfAnotherMemory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	base, mem := based(t, filepath.Join(dir, "base"))
	d, err := Begin(t.Context(), filepath.Join(dir, "one"), base, Passing)
	require.NoError(t, err)
	h := header(64<<20, 4*PageSize)
	require.ErrorIs(t, d.Capture(t.Context(), h, nil, Based{Slices{mem[0], make([]byte, 4*PageSize)}, base}), ErrHeader)
	other := Slices{mem[0], bytes.Repeat([]byte{5}, 4*PageSize)}
	require.NoError(t, d.Capture(t.Context(), h, []byte("state"), other))
	require.NoError(t, d.Publish(t.Context()))
	c := open(t, filepath.Join(dir, "one"))
	assert.Nil(t, c.base)
	assertMemory(t, other, c)
	require.NoError(t, base.Verify(t.Context()))
}

func TestPassingIsBelievedOnlyUntouched(t *testing.T) {
	t.Parallel()
	touch := func(path ...string) error {
		return os.Chtimes(filepath.Join(path...), time.Now(), time.Now().Add(-time.Hour))
	}
	for name, change := range map[string]func(dir string) error{
		"its base is gone":       func(dir string) error { return os.RemoveAll(filepath.Join(dir, "base")) },
		"its base was touched":   func(dir string) error { return touch(dir, "base", memoryName) },
		"its base is a link":     func(dir string) error { return link(filepath.Join(dir, "base", memoryName)) },
		"its base is a pipe":     func(dir string) error { return pipe(filepath.Join(dir, "base", memoryName)) },
		"its memory was touched": func(dir string) error { return touch(dir, "one", memoryName) },
		"its memory is shorter":  func(dir string) error { return os.Truncate(filepath.Join(dir, "one", memoryName), PageSize) },
		"it was not sealed":      func(dir string) error { return os.Remove(filepath.Join(dir, "one", sealName)) },
		"it was copied elsewhere": func(dir string) error {
			return errors.Join(os.CopyFS(filepath.Join(dir, "two"), os.DirFS(filepath.Join(dir, "one"))), os.RemoveAll(filepath.Join(dir, "one")), os.Rename(filepath.Join(dir, "two"), filepath.Join(dir, "one")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			h := header(16 * PageSize)
			require.NoError(t, Write(t.Context(), filepath.Join(dir, "base"), h, nil, guest(h)))
			base := open(t, filepath.Join(dir, "base"))
			mem := restored(t, base)
			mem[0][5*PageSize] = 1
			require.NotNil(t, passingAt(t, filepath.Join(dir, "one"), h, Based{mem, base}).base)
			require.NoError(t, change(dir))
			_, err := Open(t.Context(), filepath.Join(dir, "one"))
			want := ErrDamaged
			if strings.HasPrefix(name, "its base") {
				want = ErrBase
			}
			assert.ErrorIs(t, err, want)
			assert.ErrorContains(t, err, filepath.Join(dir, "one"))
		})
	}
}

// What was not flushed may be anything after the host was booted anew, whatever its seal says.
func TestPassingEndsWithTheBoot(t *testing.T) {
	t.Parallel()
	h := header(16 * PageSize)
	dir := filepath.Join(t.TempDir(), "one")
	c := passingAt(t, dir, h, guest(h))
	m := *c.machine
	for boot, want := range map[bootID]error{thisBoot(): nil, {'x'}: ErrDamaged} {
		l := *c.machine.layer
		l.boot = boot
		m.layer = &l
		b, err := m.encode()
		require.NoError(t, err)
		s, err := stateOf(c.memory)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, machineName), b, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, sealName), seal(s, m.digest), 0o600))
		again, err := Open(t.Context(), dir)
		assert.ErrorIs(t, err, want)
		if err == nil {
			require.NoError(t, again.Close())
		}
	}
	assert.NotZero(t, thisBoot())
}
