package format

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func header(sizes ...uint64) Header {
	h := Header{Created: time.Now(), Kind: Template, Host: Host{Vendor: "GenuineTest", Family: 6, Model: 85, Stepping: 7, Features: "sha256:ab"},
		Profile: "default", Kernel: "sha256:01", Agent: "sha256:02", VCPUs: 2, MaxVCPUs: 4, Devices: []string{"console", "blk0"},
		Shape: json.RawMessage(`{"memory":64}`)}
	at := uint64(0)
	for _, n := range sizes {
		h.Regions = append(h.Regions, Region{Address: at, Size: n})
		at += n + 1<<30
	}
	return h
}

// guest is a memory with data here and there, over the border of regions and chunks too.
func guest(h Header) Slices {
	r := rand.New(rand.NewPCG(1, 2))
	var mem Slices
	for _, region := range h.Regions {
		b := make([]byte, region.Size)
		for _, at := range []uint64{0, chunkSize - 10, region.Size - 8} {
			for i := at; i < min(at+20, region.Size); i++ {
				b[i] = byte(r.Uint32() | 1)
			}
		}
		mem = append(mem, b)
	}
	return mem
}

// content reads everything of a checkpoint.
func content(t *testing.T, c *Checkpoint) (Header, []byte, Slices) {
	t.Helper()
	var mem Slices
	for i, r := range c.Header().Regions {
		b := make([]byte, r.Size)
		at := int64(0)
		for _, p := range c.Pieces(Range{Offset: c.Offset(i), Length: int64(r.Size)}) {
			require.Equal(t, c.Offset(i)+at, p.Offset)
			_, err := p.File.ReadAt(b[at:at+p.Length], p.Offset)
			require.NoError(t, err)
			at += p.Length
		}
		require.EqualValues(t, r.Size, at)
		mem = append(mem, b)
	}
	return c.Header(), c.State(), mem
}

func open(t *testing.T, dir string) *Checkpoint {
	t.Helper()
	c, err := Open(t.Context(), dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestWriteAndOpen(t *testing.T) {
	t.Parallel()
	h := header(chunkSize+PageSize, 3*chunkSize, PageSize, 40<<20)
	mem, state := guest(h), []byte("registers")
	dir := filepath.Join(t.TempDir(), "templates", "one")
	require.NoError(t, Write(t.Context(), dir, h, state, mem))

	c := open(t, dir)
	gotHeader, gotState, gotMem := content(t, c)
	assert.True(t, h.Created.Equal(gotHeader.Created))
	gotHeader.Created = h.Created
	assert.Equal(t, h, gotHeader)
	assert.Equal(t, state, gotState)
	assert.True(t, assert.ObjectsAreEqual(mem, gotMem), "memory differs")
	require.NoError(t, c.Verify(t.Context()))

	var st unix.Stat_t
	require.NoError(t, unix.Stat(filepath.Join(dir, memoryName), &st))
	assert.Equal(t, h.MemorySize(), st.Size)
	assert.Less(t, st.Blocks*512, int64(1<<20), "zeros take no space")
	assertOnly(t, filepath.Dir(dir), "one")
}

func assertOnly(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	assert.ElementsMatch(t, want, names)
}

func TestReplace(t *testing.T) {
	t.Parallel()
	h := header(64 << 10)
	parent := t.TempDir()
	dir := filepath.Join(parent, "one")
	require.NoError(t, Write(t.Context(), dir, h, []byte("first"), guest(h)))
	first := open(t, dir)
	require.NoError(t, Write(t.Context(), dir, h, []byte("second"), guest(h)))
	assert.Equal(t, "second", string(open(t, dir).State()))
	require.NoError(t, first.Verify(t.Context()), "what is open stays good")

	taken := filepath.Join(parent, "taken")
	require.NoError(t, os.Mkdir(taken, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(taken, "precious"), nil, 0o600))
	assert.ErrorIs(t, Write(t.Context(), taken, h, nil, guest(h)), ErrExists)
	assert.ErrorIs(t, Write(t.Context(), filepath.Join(taken, "precious"), h, nil, guest(h)), ErrExists)
	assertOnly(t, parent, "one", "taken")
	assertOnly(t, taken, "precious")
}

func TestNothingIsLeftOfFailures(t *testing.T) {
	t.Parallel()
	h := header(64<<10, 64<<10)
	parent := t.TempDir()
	dir := filepath.Join(parent, "one")
	over, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	bad := h
	bad.Shape = json.RawMessage("{")
	for name, c := range map[string]struct {
		ctx  context.Context
		h    Header
		mem  Memory
		want error
	}{
		"cancelled":        {over, h, guest(h), why},
		"too little":       {t.Context(), h, Slices{make([]byte, 64<<10), make([]byte, PageSize)}, ErrHeader},
		"no shape":         {t.Context(), bad, guest(h), ErrHeader},
		"invalid header":   {t.Context(), Header{}, guest(h), ErrHeader},
		"too large a file": {t.Context(), Header{Kind: Full, VCPUs: 1, MaxVCPUs: 1, Regions: []Region{{Size: MaxMemory + PageSize}}}, guest(h), ErrHeader},
	} {
		assert.ErrorIs(t, Write(c.ctx, dir, c.h, nil, c.mem), c.want, name)
		assertOnly(t, parent)
	}
	d, err := Capture(t.Context(), dir, Lasting, h, nil, guest(h))
	require.NoError(t, err)
	assert.ErrorIs(t, d.Publish(over), why)
	assertOnly(t, parent)
	d, err = Capture(t.Context(), dir, Lasting, h, nil, guest(h))
	require.NoError(t, err)
	require.NoError(t, d.Discard())
	assertOnly(t, parent)
}

type fullDisk struct{ written int }

func (f *fullDisk) WriteAt(b []byte, _ int64) (int, error) {
	if f.written += len(b); f.written > chunkSize {
		return 0, unix.ENOSPC
	}
	return len(b), nil
}

func TestFullDiskEndsACapture(t *testing.T) {
	t.Parallel()
	b := make([]byte, 3*chunkSize)
	for i := range b {
		b[i] = 1
	}
	w := &memoryWriter{ctx: t.Context(), f: &fullDisk{}}
	assert.ErrorIs(t, w.region(b, []Range{{Length: int64(len(b))}}), unix.ENOSPC)
}

func TestDeadWritersAreSwept(t *testing.T) {
	t.Parallel()
	h := header(64 << 10)
	parent := t.TempDir()
	dir := filepath.Join(parent, "one")
	live, err := Capture(t.Context(), dir, Lasting, h, []byte("live"), guest(h))
	require.NoError(t, err)
	dead := filepath.Join(parent, ".one.0"+stagingSuffix) // nobody has it locked
	require.NoError(t, os.Mkdir(dead, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dead, memoryName), nil, 0o600))
	foreign := filepath.Join(parent, ".one.1"+stagingSuffix)
	require.NoError(t, os.MkdirAll(filepath.Join(foreign, "precious"), 0o700))

	require.NoError(t, Write(t.Context(), dir, h, []byte("new"), guest(h)))
	assertOnly(t, parent, "one", filepath.Base(live.place.Path), filepath.Base(foreign))
	require.NoError(t, live.Publish(t.Context()))
	assert.Equal(t, "live", string(open(t, dir).State()))
	assertOnly(t, parent, "one", filepath.Base(foreign))
}

func TestWritersOfOneNameAtOnce(t *testing.T) {
	t.Parallel()
	h := header(64 << 10)
	parent := t.TempDir()
	dir := filepath.Join(parent, "one")
	errs := make(chan error)
	const writers = 8
	for range writers {
		go func() { errs <- Write(t.Context(), dir, h, []byte("state"), guest(h)) }()
	}
	for range writers {
		assert.NoError(t, <-errs)
	}
	require.NoError(t, open(t, dir).Verify(t.Context()))
	assertOnly(t, parent, "one")
}

func TestSeal(t *testing.T) {
	t.Parallel()
	h := header(2 * chunkSize)
	dir := filepath.Join(t.TempDir(), "one")
	require.NoError(t, Write(t.Context(), dir, h, []byte("state"), guest(h)))
	over, cancel := context.WithCancel(t.Context())
	cancel()
	opens := func(dir string, reads bool) {
		t.Helper()
		c, err := Open(over, dir) // whose verification cannot but fail
		if reads {
			require.ErrorIs(t, err, context.Canceled)
			return
		}
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
	opens(dir, false)
	moved := dir + "-moved"
	require.NoError(t, os.Rename(dir, moved))
	opens(moved, false)
	dir = dir + "-copy"
	require.NoError(t, os.CopyFS(dir, os.DirFS(moved)))
	opens(dir, true)
	c := open(t, dir)
	require.NoError(t, c.Seal(t.Context()))
	opens(dir, false)

	flip(t, filepath.Join(dir, memoryName), 3)
	_, err := Open(t.Context(), dir)
	assert.ErrorIs(t, err, ErrDamaged)
	assert.ErrorIs(t, c.Verify(t.Context()), ErrDamaged)
	assert.ErrorIs(t, c.Seal(t.Context()), ErrDamaged)
	flip(t, filepath.Join(dir, memoryName), 3)
	opens(dir, true)
	require.NoError(t, open(t, dir).Verify(t.Context()))

	other := filepath.Join(t.TempDir(), "other")
	mem := guest(h)
	mem[0][chunkSize] ^= 1
	require.NoError(t, Write(t.Context(), other, h, []byte("state"), mem))
	b, err := os.ReadFile(filepath.Join(moved, machineName))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(other, machineName), b, 0o600))
	_, err = Open(t.Context(), other)
	assert.ErrorIs(t, err, ErrDamaged, "memory of another checkpoint")
}

func flip(t *testing.T, file string, at int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{b[0] ^ 0x10}, at)
	require.NoError(t, err)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	h := header(64 << 10)
	for name, c := range map[string]struct {
		do   func(dir string) error
		want error
	}{
		"nothing":           {os.RemoveAll, fs.ErrNotExist},
		"no machine":        {func(dir string) error { return os.Remove(filepath.Join(dir, machineName)) }, ErrDamaged},
		"no memory":         {func(dir string) error { return os.Remove(filepath.Join(dir, memoryName)) }, ErrDamaged},
		"short memory":      {func(dir string) error { return os.Truncate(filepath.Join(dir, memoryName), 60<<10) }, ErrDamaged},
		"long memory":       {func(dir string) error { return os.Truncate(filepath.Join(dir, memoryName), 68<<10) }, ErrDamaged},
		"short machine":     {func(dir string) error { return os.Truncate(filepath.Join(dir, machineName), 100) }, ErrDamaged},
		"empty machine":     {func(dir string) error { return os.Truncate(filepath.Join(dir, machineName), 0) }, ErrDamaged},
		"huge machine":      {func(dir string) error { return os.Truncate(filepath.Join(dir, machineName), maxMachine+1) }, ErrDamaged},
		"pipe for machine":  {func(dir string) error { return pipe(filepath.Join(dir, machineName)) }, ErrDamaged},
		"pipe for memory":   {func(dir string) error { return pipe(filepath.Join(dir, memoryName)) }, ErrDamaged},
		"link out of it":    {func(dir string) error { return link(filepath.Join(dir, memoryName)) }, nil},
		"version to come":   {func(dir string) error { return patch(filepath.Join(dir, machineName), len(magic), passing+1) }, ErrVersion},
		"not one of ours":   {func(dir string) error { return patch(filepath.Join(dir, machineName), 0, 'x') }, ErrDamaged},
		"a file, not a dir": {func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) }, nil},
	} {
		dir := filepath.Join(t.TempDir(), "one")
		require.NoError(t, Write(t.Context(), dir, h, []byte("state"), guest(h)), name)
		require.NoError(t, c.do(dir), name)
		_, err := Open(t.Context(), dir)
		require.Error(t, err, name)
		if c.want != nil {
			assert.ErrorIs(t, err, c.want, name)
		}
	}
}

func pipe(path string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)) }

func link(path string) error { return errors.Join(os.Remove(path), os.Symlink("/dev/zero", path)) }

func patch(path string, at int, v byte) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[at] = v
	return os.WriteFile(path, b, 0o600)
}

func TestPrefetch(t *testing.T) {
	t.Parallel()
	h := header(64 << 10)
	dir := filepath.Join(t.TempDir(), "one")
	require.NoError(t, Write(t.Context(), dir, h, nil, guest(h)))
	c := open(t, dir)
	none := func(c *Checkpoint, why string) {
		p, ok := c.Prefetch()
		assert.False(t, ok, why)
		assert.Empty(t, p, why)
	}
	none(c, "nothing is recorded")
	good := []Range{{0, 4096}, {8192, 4096}, {12288, 64<<10 - 12288}}
	for _, want := range []Prefetch{{good[:2], good}, {nil, good}, {good, nil}, {}} {
		require.NoError(t, RecordPrefetch(dir, want))
		for _, c := range []*Checkpoint{c, open(t, dir)} {
			got, ok := c.Prefetch()
			assert.True(t, ok)
			assert.ElementsMatch(t, want.Written, got.Written)
			assert.ElementsMatch(t, want.Touched, got.Touched)
		}
	}
	for name, bad := range map[string][]Range{
		"beyond the end": {{0, 64<<10 + 1}}, "overlapping": {{0, 8192}, {4096, 4096}}, "empty": {{0, 0}}, "negative": {{-4096, 4096}},
		"wrapping": {{4096, -1}},
	} {
		require.NoError(t, RecordPrefetch(dir, Prefetch{Written: bad}))
		none(c, name)
		require.NoError(t, RecordPrefetch(dir, Prefetch{Written: good, Touched: bad}))
		none(c, name)
	}
	assert.Error(t, RecordPrefetch(dir, Prefetch{make([]Range, maxRanges/2), make([]Range, maxRanges/2+2)}))
	require.NoError(t, RecordPrefetch(dir, Prefetch{good, good}))
	flip(t, filepath.Join(dir, prefetchName), 12)
	none(c, "damaged")
	require.NoError(t, Write(t.Context(), dir, h, nil, guest(h)))
	none(open(t, dir), "it belonged to what was replaced")
}

func TestFits(t *testing.T) {
	t.Parallel()
	h := header(64<<20, 32<<20)
	require.NoError(t, h.Fits(header(64<<20, 32<<20)))
	later := h
	later.Created, later.Kind, later.Shape = time.Time{}, Full, nil
	require.NoError(t, h.Fits(later))
	for what, change := range map[string]func(*Header){
		"host processor":       func(h *Header) { h.Host.Stepping++ },
		"set of host features": func(h *Header) { h.Host.Features = "sha256:ac" },
		"CPU profile":          func(h *Header) { h.Profile = "soft" },
		"guest kernel":         func(h *Header) { h.Kernel = "sha256:00" },
		"guest agent":          func(h *Header) { h.Agent = "" },
		"number of processors": func(h *Header) { h.MaxVCPUs++ },
		"memory":               func(h *Header) { h.Regions = h.Regions[:1] },
		"device list":          func(h *Header) { h.Devices = []string{"blk0", "console"} },
	} {
		want := header(64<<20, 32<<20)
		change(&want)
		err := h.Fits(want)
		var mismatch *MismatchError
		require.ErrorAs(t, err, &mismatch, what)
		assert.ErrorIs(t, err, ErrMismatch)
		require.Len(t, mismatch.Differences, 1, what)
		d := mismatch.Differences[0]
		assert.Equal(t, what, d.What)
		assert.NotEqual(t, d.Have, d.Want)
		assert.ErrorContains(t, err, d.Advice)
	}
	assert.EqualError(t, h.Fits(header(64<<20)), "checkpoint does not fit: its memory is 64 MiB at 0x0 and 32 MiB at 0x44000000, here 64 MiB at 0x0: restore it with the settings it was made with")
}

func TestInvalidHeaders(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Header){
		"kind":            func(h *Header) { h.Kind = "partial" },
		"no processor":    func(h *Header) { h.VCPUs = 0 },
		"too many":        func(h *Header) { h.VCPUs = h.MaxVCPUs + 1 },
		"no memory":       func(h *Header) { h.Regions = nil },
		"empty region":    func(h *Header) { h.Regions[0].Size = 0 },
		"half a page":     func(h *Header) { h.Regions[0].Size = 2048 },
		"half an address": func(h *Header) { h.Regions[0].Address = 2048 },
		"overlap":         func(h *Header) { h.Regions[1].Address = h.Regions[0].Size - PageSize },
		"descending":      func(h *Header) { h.Regions[0], h.Regions[1] = h.Regions[1], h.Regions[0] },
		"wrap":            func(h *Header) { h.Regions[1].Address = ^uint64(0) - PageSize + 1 },
		"sum overflows":   func(h *Header) { h.Regions[0].Size, h.Regions[1].Size = MaxMemory, MaxMemory },
		"size overflows":  func(h *Header) { h.Regions[0].Size = ^uint64(0) - PageSize + 1 },
		"many regions":    func(h *Header) { h.Regions = make([]Region, MaxRegions+1) },
		"many devices":    func(h *Header) { h.Devices = make([]string, MaxDevices+1) },
	} {
		h := header(64<<10, 64<<10)
		require.NoError(t, h.validate())
		change(&h)
		assert.Error(t, h.validate(), name)
	}
}
