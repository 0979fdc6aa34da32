package template

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/kernel"
	"github.com/gomsb/gomsb/snapshot/format"
	"github.com/gomsb/gomsb/vmm"
	"github.com/gomsb/gomsb/vmm/hv/kvmtest"
	"github.com/gomsb/gomsb/vmm/memory"
)

func shape() *Shape {
	return &Shape{Build: "b", Kernel: "k", Agent: "a", VCPUs: 1, MaxVCPUs: 1, MemoryMiB: 64, Disks: []bool{true, false}, Tags: []string{"msb_runtime"}, Net: true}
}

const mib = 1 << 20

// write stands for what a machine would write.
func write(t *testing.T, content map[int]byte) func(dir string, shape []byte) error {
	return func(dir string, shape []byte) error {
		h := format.Header{
			Created: time.Now(), Kind: format.Template, VCPUs: 1, MaxVCPUs: 1, Shape: shape,
			Regions: []format.Region{{Address: 0, Size: 4 * mib}, {Address: 1 << 32, Size: 4 * mib}},
		}
		memory := make([]byte, 8*mib)
		for at, b := range content {
			memory[at] = b
		}
		return format.Write(t.Context(), dir, h, []byte("state"), format.Slices{memory[:4*mib], memory[4*mib:]})
	}
}

func TestBuildAndOpen(t *testing.T) {
	t.Parallel()
	c, s := Cache{filepath.Join(t.TempDir(), "templates")}, shape()
	_, err := c.Open(t.Context(), s)
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.True(t, c.Wanted(s))
	require.NoError(t, c.build(t.Context(), s, write(t, map[int]byte{5: 1, 300 * 1024: 1, 3 * mib: 1, 6*mib + 4097: 1})))
	assert.False(t, c.Wanted(s))
	require.NoError(t, c.build(t.Context(), s, func(string, []byte) error { return errors.New("it is there already") }))

	open, err := c.Open(t.Context(), s)
	require.NoError(t, err)
	defer func() { assert.NoError(t, open.Close()) }()
	saved, err := Saved(open)
	require.NoError(t, err)
	assert.Equal(t, "state", string(saved.State))
	assert.Empty(t, saved.Dirty)
	assert.Len(t, saved.Mapped, len(saved.Extents), "of a checkpoint all is mapped")
	copied, first, err := Copy(open)
	require.NoError(t, err)
	assert.True(t, first && copied.Watch)
	assert.Empty(t, copied.Mapped, "of the first copy is seen what it touches")
	assert.Equal(t, saved.Extents, copied.Extents)
	covers := func(addr uint64) bool {
		for _, e := range saved.Extents {
			if addr >= e.Addr && addr-e.Addr < uint64(e.Size) {
				return e.Offset%memory.PageSize == 0 && e.Addr%memory.PageSize == 0 && e.Size%memory.PageSize == 0
			}
		}
		return false
	}
	for _, addr := range []uint64{5, 300 * 1024, 3 * mib, 1<<32 + 2*mib + 4097} {
		assert.True(t, covers(addr), "%#x", addr)
	}
	assert.False(t, covers(2*mib), "zeros are not mapped")
	assert.LessOrEqual(t, len(saved.Extents), 4, "what is near is one piece")

	other := shape()
	other.MemoryMiB++
	_, err = c.Open(t.Context(), other)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, c.Remove(s))
	assert.True(t, c.Wanted(s))
	require.NoError(t, c.Remove(s), "twice is fine")
}

func TestRenamedTemplateIsRefused(t *testing.T) {
	t.Parallel()
	c, s, other := Cache{filepath.Join(t.TempDir(), "templates")}, shape(), shape()
	other.Words = "more"
	require.NoError(t, c.build(t.Context(), s, write(t, nil)))
	from, _, err := s.key()
	require.NoError(t, err)
	to, _, err := other.key()
	require.NoError(t, err)
	require.NoError(t, os.Rename(filepath.Join(c.Dir, from), filepath.Join(c.Dir, to)))
	_, err = c.Open(t.Context(), other)
	assert.ErrorIs(t, err, format.ErrMismatch)
}

func TestFailureIsNotTriedAgainAtOnce(t *testing.T) {
	t.Parallel()
	c, s := Cache{t.TempDir()}, shape()
	require.NoError(t, os.Chmod(c.Dir, 0o700))
	failure := errors.New("no memory")
	require.ErrorIs(t, c.build(t.Context(), s, func(string, []byte) error { return failure }), failure)
	assert.False(t, c.Wanted(s))
	require.NoError(t, c.build(t.Context(), s, func(string, []byte) error { return errors.New("it is not called") }))
	key, _, err := s.key()
	require.NoError(t, err)
	text, err := os.ReadFile(c.failed(key))
	require.NoError(t, err)
	assert.Equal(t, "no memory\n", string(text))
	old := time.Now().Add(-2 * retryAfter)
	require.NoError(t, os.Chtimes(c.failed(key), old, old))
	assert.True(t, c.Wanted(s))
	require.NoError(t, c.build(t.Context(), s, write(t, nil)))
	assert.NoFileExists(t, c.failed(key))
}

func TestOneBuildsAtATime(t *testing.T) {
	t.Parallel()
	c := Cache{filepath.Join(t.TempDir(), "templates")}
	other := shape()
	other.VCPUs = 2
	second := make(chan error, 1)
	var built atomic.Bool // a lock of the host orders the two, which the race detector does not know
	require.NoError(t, c.build(t.Context(), shape(), func(dir string, b []byte) error {
		require.NoError(t, c.build(t.Context(), shape(), func(string, []byte) error { return errors.New("it is not called") }), "nobody waits for the same")
		go func() {
			second <- c.build(t.Context(), other, func(dir string, b []byte) error {
				assert.True(t, built.Load(), "it waits for the first")
				return write(t, nil)(dir, b)
			})
		}()
		err := write(t, nil)(dir, b)
		built.Store(true)
		return err
	}))
	require.NoError(t, <-second)
	assert.False(t, c.Wanted(other))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	other.VCPUs = 3
	require.NoError(t, c.build(t.Context(), other, func(dir string, b []byte) error {
		another := shape()
		another.VCPUs = 4
		assert.ErrorIs(t, c.build(ended, another, write(t, nil)), context.Canceled)
		return write(t, nil)(dir, b)
	}))
}

func TestUnsafeFolder(t *testing.T) {
	t.Parallel()
	c := Cache{t.TempDir()}
	require.NoError(t, os.Chmod(c.Dir, 0o777))
	_, err := c.Open(t.Context(), shape())
	require.ErrorIs(t, err, ErrUnsafe)
	require.ErrorIs(t, c.build(t.Context(), shape(), write(t, nil)), ErrUnsafe)
}

func TestPrune(t *testing.T) {
	t.Parallel()
	c := Cache{filepath.Join(t.TempDir(), "templates")}
	now := time.Now()
	add := func(name string, age time.Duration, size int64) {
		dir := filepath.Join(c.Dir, name)
		require.NoError(t, os.MkdirAll(dir, 0o700))
		f, err := os.Create(filepath.Join(dir, "memory"))
		require.NoError(t, err)
		_, err = f.Write(make([]byte, size))
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.NoError(t, os.Chtimes(dir, now.Add(-age), now.Add(-age)))
	}
	add("new", time.Hour, 10)
	add("old", maxAge+time.Hour, 10)
	add("kept", maxAge+time.Hour, 10)
	add(".key.123.checkpoint", 0, 10)
	require.NoError(t, c.prune("kept", now))
	assert.NoDirExists(t, filepath.Join(c.Dir, ".key.123.checkpoint"), "what a killed process left")
	assert.DirExists(t, filepath.Join(c.Dir, "new"))
	assert.DirExists(t, filepath.Join(c.Dir, "kept"))
	assert.NoDirExists(t, filepath.Join(c.Dir, "old"))
}

func TestPrefetchOfTwoRegions(t *testing.T) {
	t.Parallel()
	c, s := Cache{filepath.Join(t.TempDir(), "templates")}, shape()
	require.NoError(t, c.build(t.Context(), s, write(t, map[int]byte{0: 1, 5 * mib: 1})))
	key, _, err := s.key()
	require.NoError(t, err)
	const page = memory.PageSize
	list := []format.Range{{Offset: 2 * page, Length: page}, {Offset: 4*mib - page, Length: 2 * page}, {Offset: 5 * mib, Length: page}}
	require.NoError(t, format.RecordPrefetch(filepath.Join(c.Dir, key), format.Prefetch{Written: list, Touched: list[1:]}))
	open, err := c.Open(context.Background(), s)
	require.NoError(t, err)
	defer func() { assert.NoError(t, open.Close()) }()
	saved, err := Saved(open)
	require.NoError(t, err)
	want := []memory.Range{{Base: 2 * page, Size: page}, {Base: 1<<32 + mib, Size: page}}
	assert.Equal(t, want, saved.Dirty, "a range across two regions is of no region")
	assert.Equal(t, want[1:], saved.Mapped)
	copied, first, err := Copy(open)
	require.NoError(t, err)
	assert.False(t, first || copied.Watch)
	assert.Equal(t, saved, copied)
}

func TestHostAndBuild(t *testing.T) {
	t.Parallel()
	h, err := Host()
	require.NoError(t, err)
	assert.NotEmpty(t, h.Vendor)
	assert.Len(t, h.Features, 64)
	again, err := Host()
	require.NoError(t, err)
	assert.Equal(t, h, again)
	b, err := Build()
	require.NoError(t, err)
	assert.Len(t, b, 64)
}

func TestShapeTellsNothingOfASandbox(t *testing.T) {
	t.Parallel()
	s := shape()
	s.Tags = append(s.Tags, Tag(1))
	key, text, err := s.key()
	require.NoError(t, err)
	assert.Len(t, key, 64)
	back, err := Parse(text)
	require.NoError(t, err)
	assert.Equal(t, s, back)
	assert.Contains(t, string(text), `"msb_share_1"`)
	_, err = Parse([]byte("{"))
	require.ErrorContains(t, err, "shape of a template")
	for _, d := range s.disks() {
		assert.Zero(t, d.Backend.Size())
	}
	assert.False(t, strings.Contains(string(text), "path"))
}

func TestListsAreBounded(t *testing.T) {
	t.Parallel()
	list := []format.Range{{Offset: 0, Length: 10}, {Offset: 20, Length: 5}, {Offset: 30, Length: 1}}
	for n, want := range map[int64]int{0: 0, 9: 0, 10: 1, 14: 1, 15: 2, 16: 3, 100: 3} {
		assert.Equal(t, list[:want], atMost(list, n), n)
	}
}

// TestRecord notes what a copy touched, once.
func TestRecord(t *testing.T) {
	c, s := Cache{filepath.Join(t.TempDir(), "templates")}, shape()
	m, err := vmm.New(vmm.Config{VCPUs: 1, MemoryMiB: 64, Saved: saveMachine(t, c, s)})
	require.NoError(t, err)
	defer func() { assert.NoError(t, m.Close()) }()
	const page = memory.PageSize
	b, err := m.Memory().Slice(20*mib, mib)
	require.NoError(t, err)
	b[9*page] = b[30*page]
	r, err := Record(m)
	require.NoError(t, err)
	b[50*page] = 7 // when it was ready
	require.NoError(t, c.Keep(s, r))
	open, err := c.Open(t.Context(), s)
	require.NoError(t, err)
	defer func() { assert.NoError(t, open.Close()) }()
	at := func(n int64) format.Range { return format.Range{Offset: 20*mib + n*page, Length: page} }
	want := format.Prefetch{Written: []format.Range{at(9)}, Touched: []format.Range{at(9), at(30), at(50)}}
	got, ok := open.Prefetch()
	assert.True(t, ok)
	assert.Equal(t, want, got)
	b[100*page] = 7
	require.NoError(t, c.Keep(s, r), "again")
	got, _ = open.Prefetch()
	assert.Equal(t, want, got)
}

// saveMachine makes a template of a machine that never ran.
func saveMachine(t *testing.T, c Cache, s *Shape) *vmm.Saved {
	t.Helper()
	kvmtest.Need(t)
	cfg := vmm.Config{VCPUs: 1, MemoryMiB: 64, Kernel: spinning, CommandLine: func(vmm.Profile) string { return "" }}
	m, err := vmm.New(cfg)
	require.NoError(t, err)
	defer func() { assert.NoError(t, m.Close()) }()
	b, err := m.Memory().Slice(20*mib, mib)
	require.NoError(t, err)
	for i := range b {
		b[i] = 1
	}
	require.NoError(t, m.Start())
	require.NoError(t, m.Pause())
	state, err := m.SaveState()
	require.NoError(t, err)
	require.NoError(t, c.build(t.Context(), s, func(dir string, shape []byte) error {
		return format.Write(t.Context(), dir, s.header(m, shape), state, format.Slices{m.Memory().Regions()[0].Host})
	}))
	open, err := c.Open(t.Context(), s)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, open.Close()) })
	saved, _, err := Copy(open)
	require.NoError(t, err)
	return saved
}

// spinning is a kernel of one instruction, a jump to itself.
var spinning = &kernel.Image{Segments: []kernel.Segment{{Addr: 16 << 20, Data: []byte{0xEB, 0xFE}, MemSize: 4096, Offset: -1}}, Entry: 16 << 20}
