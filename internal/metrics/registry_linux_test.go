package metrics

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	allDead  = Use{Alive: func(int) bool { return false }, Starting: func(int32) bool { return true }}
	allAlive = Use{Alive: func(int) bool { return true }, Starting: func(int32) bool { return true }}
)

func TestLife(t *testing.T) {
	r := registry(t, 4)
	v, err := r.Reserve(Owner{SandboxID: 7, Name: "demo", MemoryLimit: 1 << 30}, allAlive)
	require.NoError(t, err)
	assert.Empty(t, r.Entries(Active))
	began := time.UnixMilli(1_700_000_000_123)
	w, err := r.Activate(v, Run{ID: 9, PID: 1234, StartedAt: began})
	require.NoError(t, err)
	e, err := r.ByRun(9)
	require.NoError(t, err)
	assert.True(t, e.At.IsZero(), "no sample yet")
	s := Sample{
		At: began.Add(time.Second), Known: CPUPercent | MemoryUsed | MemoryAvailable | HostResident | UpperUsed | UpperFree | UpperOnHost,
		VCPUTime: 1500 * time.Millisecond, CPUPercent: 150.5, MemoryUsed: 1, MemoryFree: 2, HostResident: 3, DiskRead: 4, DiskWritten: 5,
		NetReceived: 6, NetSent: 7, UpperUsed: 8, UpperFree: 9, UpperOnHost: 10,
	}
	require.NoError(t, w.Sample(&s))
	e, err = r.ByRun(9)
	require.NoError(t, err)
	assert.Equal(t, Entry{
		Reservation: v, State: Active, Owner: Owner{SandboxID: 7, Name: "demo", MemoryLimit: 1 << 30},
		Run: Run{ID: 9, PID: 1234, StartedAt: began}, Sample: s,
	}, e)
	assert.Zero(t, testing.AllocsPerRun(100, func() { _ = w.Sample(&s) }))
	grown := s
	grown.MemoryTotal = 2 << 30
	require.NoError(t, w.Sample(&grown))
	require.NoError(t, w.Sample(&s))
	e, err = r.ByRun(9)
	require.NoError(t, err)
	assert.EqualValues(t, 2<<30, e.MemoryLimit, "0 leaves it")
	w.Release(Stale)
	w.Release(Free) // too late
	stale := r.Entries(Stale)
	require.Len(t, stale, 1)
	assert.Equal(t, s, stale[0].Sample)
	assert.ErrorIs(t, w.Sample(&s), ErrGeneration)
}

// Where each field of a sample lies, by the specification.
func TestSampleLayout(t *testing.T) {
	r := registry(t, 1)
	v, err := r.Reserve(Owner{SandboxID: 1, Name: "n", MemoryLimit: 99}, allDead)
	require.NoError(t, err)
	w, err := r.Activate(v, Run{ID: 2, PID: 3, StartedAt: time.UnixMilli(4)})
	require.NoError(t, err)
	require.NoError(t, w.Sample(&Sample{
		At: time.UnixMilli(0x30), Known: 0x38, VCPUTime: 0x48, CPUPercent: 12.5, MemoryUsed: 0x58, MemoryFree: 0x60, HostResident: 0x68,
		DiskRead: 0x70, DiskWritten: 0x78, NetReceived: 0x80, NetSent: 0x88, UpperUsed: 0x90, UpperFree: 0x98, UpperOnHost: 0xa0,
	}))
	slot := r.mem[headerLen:]
	for off := 0x30; off <= 0xa0; off += 8 {
		want := uint64(off)
		switch off {
		case 0x40:
			want = 99
		case 0x50:
			want = uint64(math.Float32bits(12.5))
		}
		assert.Equal(t, want, binary.NativeEndian.Uint64(slot[off:]), "offset %#x", off)
	}
	assert.Equal(t, []Field{1, 2, 4, 8, 16, 32, 64}, []Field{CPUPercent, MemoryUsed, MemoryAvailable, HostResident, UpperUsed, UpperFree, UpperOnHost})
}

func TestReserveTakesTheBestSlot(t *testing.T) {
	r := registry(t, 3)
	reserve := func(name string, use Use) (Reservation, error) {
		return r.Reserve(Owner{SandboxID: 1, Name: name}, use)
	}
	var writers []*Writer
	for i := range uint32(3) {
		v, err := reserve("x", allAlive)
		require.NoError(t, err)
		assert.Equal(t, i, v.Slot)
		w, err := r.Activate(v, Run{ID: int32(i), PID: 100 + int(i)})
		require.NoError(t, err)
		writers = append(writers, w)
	}
	_, err := reserve("y", allAlive)
	require.ErrorIs(t, err, ErrFull)
	writers[2].Release(Stale)
	v, err := reserve("y", allAlive)
	require.NoError(t, err)
	assert.Equal(t, uint32(2), v.Slot)
	// A runtime that was killed, even while it wrote, gives its slot up.
	r.slot(1).u64(slotSequence).Add(1)
	v, err = reserve(strings.Repeat("n", 200), Use{Alive: func(pid int) bool { return pid != 101 }, Starting: allAlive.Starting})
	require.NoError(t, err)
	assert.Equal(t, uint32(1), v.Slot)
	e, err := r.Read(1)
	require.NoError(t, err)
	assert.Equal(t, Entry{Reservation: v, State: Reserved, Owner: Owner{SandboxID: 1, Name: strings.Repeat("n", 128)}}, e)
	assert.ErrorIs(t, writers[1].Sample(&Sample{}), ErrGeneration)
	writers[1].Release(Free)
	e, err = r.Read(1)
	require.NoError(t, err)
	assert.Equal(t, Reserved, e.State, "the old holder changes nothing")
}

// A controller that was killed before it started its runtime gives its slot up.
func TestReserveTakesAbandonedSlots(t *testing.T) {
	r := registry(t, 2)
	first, err := r.Reserve(Owner{SandboxID: 1}, allAlive)
	require.NoError(t, err)
	second, err := r.Reserve(Owner{SandboxID: 2}, allAlive)
	require.NoError(t, err)
	_, err = r.Reserve(Owner{SandboxID: 3}, allDead)
	require.ErrorIs(t, err, ErrFull, "their controllers live")
	use := Use{Alive: allAlive.Alive, Starting: func(sandbox int32) bool { return sandbox == 1 }}
	v, err := r.Reserve(Owner{SandboxID: 3, Name: "new"}, use)
	require.NoError(t, err)
	assert.Equal(t, second.Slot, v.Slot)
	e, err := r.Read(v.Slot)
	require.NoError(t, err)
	assert.Equal(t, Entry{Reservation: v, State: Reserved, Owner: Owner{SandboxID: 3, Name: "new"}}, e)
	r.Free(second)
	_, err = r.Activate(second, Run{ID: 2})
	require.ErrorIs(t, err, ErrGeneration, "whom it was taken from")
	_, err = r.Activate(first, Run{ID: 1})
	require.NoError(t, err)

	// Of two that find the same slot, one gets it.
	use.Starting = func(int32) bool {
		r.slot(v.Slot).u64(slotGeneration).Store(r.nextGeneration())
		return false
	}
	_, err = r.Reserve(Owner{SandboxID: 4}, use)
	require.ErrorIs(t, err, ErrFull)
	assert.Equal(t, Reserved, State(r.slot(v.Slot).u32(slotState).Load()))
}

func TestActivateFails(t *testing.T) {
	r := registry(t, 2)
	v, err := r.Reserve(Owner{SandboxID: 1}, allDead)
	require.NoError(t, err)
	_, err = r.Activate(Reservation{Slot: 2, Generation: v.Generation}, Run{})
	assert.ErrorIs(t, err, ErrFormat)
	_, err = r.Activate(Reservation{Slot: v.Slot, Generation: v.Generation + 1}, Run{})
	assert.ErrorIs(t, err, ErrGeneration)
	e, err := r.Read(v.Slot)
	require.NoError(t, err)
	assert.Equal(t, Reserved, e.State, "somebody else's reservation stays")
	// A slot whose lock is stuck is given back.
	r.slot(v.Slot).u64(slotSequence).Add(1)
	_, err = r.Activate(v, Run{})
	assert.ErrorIs(t, err, ErrBusy)
	_, err = r.Read(v.Slot)
	assert.ErrorIs(t, err, ErrBusy)
	assert.Equal(t, Free, State(r.slot(v.Slot).u32(slotState).Load()))
	_, err = r.Activate(v, Run{})
	assert.ErrorIs(t, err, ErrGeneration, "nor does it come back")
	_, err = r.Read(2)
	assert.ErrorIs(t, err, ErrNotFound)
	r.Free(Reservation{Slot: 99})
}

// A reader never sees half a sample.
func TestReadersSeeWholeSamples(t *testing.T) {
	r := registry(t, 1)
	v, err := r.Reserve(Owner{SandboxID: 1}, allDead)
	require.NoError(t, err)
	w, err := r.Activate(v, Run{ID: 1, PID: 1})
	require.NoError(t, err)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := uint64(1); ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			assert.NoError(t, w.Sample(&Sample{At: time.UnixMilli(int64(n)), DiskRead: n, UpperOnHost: n, VCPUTime: time.Duration(n)}))
		}
	})
	for range 5000 {
		e, err := r.Read(0)
		if errors.Is(err, ErrBusy) {
			continue
		}
		require.NoError(t, err)
		if !e.At.IsZero() {
			n := uint64(e.At.UnixMilli())
			require.Equal(t, [3]uint64{n, n, n}, [3]uint64{e.DiskRead, e.UpperOnHost, uint64(e.VCPUTime)})
		}
	}
	close(stop)
	wg.Wait()
}

// What cannot be a time or a percentage is unknown, whoever wrote it.
func TestDamagedSample(t *testing.T) {
	r := registry(t, 1)
	v, err := r.Reserve(Owner{SandboxID: 1}, allDead)
	require.NoError(t, err)
	w, err := r.Activate(v, Run{ID: 1, StartedAt: time.UnixMilli(math.MaxInt64)})
	require.NoError(t, err)
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1} {
		require.NoError(t, w.Sample(&Sample{At: time.UnixMilli(math.MinInt64), Known: CPUPercent, CPUPercent: float32(f)}))
		e, err := r.Read(0)
		require.NoError(t, err)
		assert.Zero(t, e.CPUPercent, f)
		assert.True(t, e.At.IsZero())
		assert.True(t, e.StartedAt.IsZero())
	}
}

// Many processes at once get slots of their own and make one segment.
func TestConcurrentCreateAndReserve(t *testing.T) {
	dir := folder(t)
	var mu sync.Mutex
	seen := make(map[uint32]bool)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			r, err := create(dir, "/r", 64)
			if !assert.NoError(t, err) {
				return
			}
			defer func() { assert.NoError(t, r.Close()) }()
			for range 4 {
				v, err := r.Reserve(Owner{SandboxID: 1}, allAlive)
				if !assert.NoError(t, err) {
					return
				}
				mu.Lock()
				assert.False(t, seen[v.Slot], "slot %d is given out twice", v.Slot)
				seen[v.Slot] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	assert.Len(t, seen, 64)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, files, 1)
}

func TestOpenRefuses(t *testing.T) {
	dir := folder(t)
	good := observed(t, observedActive, observedName3)
	write := func(name string, change func([]byte) []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), change(append([]byte(nil), good...)), 0o600))
	}
	set := func(off int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.NativeEndian.PutUint32(b[off:], v); return b }
	}
	write("empty", func([]byte) []byte { return nil })
	write("short", func(b []byte) []byte { return b[:300] })
	write("huge", func(b []byte) []byte { return append(b, make([]byte, maxSegmentSize)...) })
	write("magic", set(offMagic, 1))
	write("v2", set(offVersion, 2))
	write("header", set(offHeaderLen, 128))
	write("slot", set(offSlotLen, 256))
	write("no-slots", set(offCapacity, 0))
	write("too-many", set(offCapacity, 1025))
	write("initialising", set(offReady, 1))
	for _, name := range []string{"empty", "short", "huge", "magic", "v2", "header", "slot", "no-slots", "too-many", "initialising"} {
		_, err := open(dir, "/"+name, 0)
		assert.ErrorIs(t, err, ErrFormat, name)
		assert.ErrorContains(t, err, "remove "+filepath.Join(dir, name))
	}
	for _, name := range []string{"/none", "", "none", "/", "/..", "/.", "/a/b", "/a\x00", "/../x", "/" + strings.Repeat("a", 300)} {
		_, err := open(dir, name, 0)
		assert.ErrorIs(t, err, ErrNotFound, name)
	}
	write("ok", func(b []byte) []byte { return b })
	require.NoError(t, os.Chmod(filepath.Join(dir, "ok"), 0o666))
	_, err := open(dir, "/ok", 0)
	assert.ErrorIs(t, err, ErrOwner)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	_, err = open(dir, "/folder", 0)
	assert.Error(t, err)
	require.NoError(t, os.Symlink("ok", filepath.Join(dir, "link")))
	_, err = open(dir, "/link", 0)
	assert.Error(t, err)
}

// Whoever opens waits for the one who makes.
func TestOpenWaitsForTheMaker(t *testing.T) {
	dir := folder(t)
	path := filepath.Join(dir, "seg")
	content := observed(t, observedActive, observedName3)
	content[offReady] = 1
	require.NoError(t, os.WriteFile(path, content, 0o600))
	var wg sync.WaitGroup
	wg.Go(func() {
		time.Sleep(20 * time.Millisecond)
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if assert.NoError(t, err) {
			_, err = f.WriteAt([]byte{ready}, offReady)
			assert.NoError(t, errors.Join(err, f.Close()))
		}
	})
	r, err := open(dir, "/seg", openWait)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())
	wg.Wait()
}

// The public functions use the system's place for shared memory.
func TestPublicNames(t *testing.T) {
	name := Name(t.TempDir())
	t.Cleanup(func() { _ = os.Remove(filepath.Join(shmDir, name)) })
	_, err := Open(name)
	require.ErrorIs(t, err, ErrNotFound)
	r, err := Create(name, 0)
	require.NoError(t, err)
	assert.Equal(t, defaultCapacity, r.Capacity())
	require.NoError(t, r.Close())
	r, err = Open(name)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	st, err := os.Stat(filepath.Join(shmDir, name))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), st.Mode())
	assert.Equal(t, int64(observedSize), st.Size())
}

func TestStateNames(t *testing.T) {
	assert.Equal(t, []string{"free", "reserved", "active", "stale", "state 9"},
		[]string{Free.String(), Reserved.String(), Active.String(), Stale.String(), State(9).String()})
	assert.True(t, (CPUPercent | UpperFree).Has(UpperFree))
	assert.False(t, CPUPercent.Has(CPUPercent|UpperFree))
}

// FuzzSegment opens and uses whatever another process left.
func FuzzSegment(f *testing.F) {
	f.Add(observed(f, observedActive, observedName3)[:headerLen+slotLen], uint32(0), uint64(5))
	f.Add(observed(f, observedReserved, observedName2)[:headerLen+slotLen], uint32(0), uint64(3))
	path := filepath.Join(folder(f), "seg")
	f.Fuzz(func(t *testing.T, b []byte, slot uint32, generation uint64) {
		if len(b) > headerLen+4*slotLen {
			b = b[:headerLen+4*slotLen]
		}
		if len(b) >= offCapacity+4 { // a segment as large as its header says, for most inputs
			binary.NativeEndian.PutUint32(b[offCapacity:], binary.NativeEndian.Uint32(b[offCapacity:])%4)
		}
		require.NoError(t, os.WriteFile(path, b, 0o600))
		r, err := open(filepath.Dir(path), "/seg", 0)
		if err != nil {
			return
		}
		defer func() { _ = r.Close() }()
		for _, e := range r.Entries(Free, Reserved, Active, Stale) {
			assert.LessOrEqual(t, len(e.Name), 3*maxName)
			assert.GreaterOrEqual(t, e.VCPUTime, time.Duration(0))
		}
		if w, err := r.Activate(Reservation{Slot: slot, Generation: generation}, Run{ID: 1, PID: 2, StartedAt: time.Now()}); err == nil {
			assert.NoError(t, w.Sample(&Sample{At: time.Now()}))
			w.Release(Stale)
		}
		_, _ = r.Reserve(Owner{SandboxID: 1, Name: "n"}, allDead)
	})
}
