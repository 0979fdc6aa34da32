package vmm

import (
	"context"
	"encoding/binary"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/kernel"
	"github.com/gomsb/gomsb/vmm/hv/kvm"
	"github.com/gomsb/gomsb/vmm/hv/kvmtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	codeAddr    = 16 << 20
	counterAddr = 2 << 20
	patience    = 30 * time.Second
)

// Guests of a few instructions, in 64-bit mode.
var (
	reset    = []byte{0xB0, 0xFE, 0xE6, 0x64, 0xEB, 0xFE}                                                             // out 0x64, 0xFE
	powerOff = []byte{0x66, 0xB8, 0x00, 0x20, 0x66, 0xBA, 0x04, 0x06, 0x66, 0xEF, 0xEB, 0xFE}                         // outw 0x604, 0x2000
	panics   = slices.Concat([]byte{0xB0, 0x01, 0x66, 0xBA, 0x05, 0x05, 0xEE}, reset)                                 // outb 0x505, 1, then reset
	fault    = []byte{0x0F, 0x0B}                                                                                     // ud2
	panicUD  = slices.Concat([]byte{0xB0, 0x01, 0x66, 0xBA, 0x05, 0x05, 0xEE}, fault)                                 // the same, then ud2
	spins    = []byte{0xEB, 0xFE}                                                                                     // jmp $
	halts    = []byte{0xFA, 0xF4, 0xEB, 0xFD}                                                                         // cli; hlt, again
	idles    = []byte{0xFB, 0xF4, 0xEB, 0xFD}                                                                         // sti; hlt, again
	panicHLT = slices.Concat([]byte{0xB0, 0x01, 0x66, 0xBA, 0x05, 0x05, 0xEE}, halts)                                 // outb 0x505, 1, then halts
	counts   = []byte{0x48, 0xFF, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00, 0xE6, 0x80, 0xEB, 0xF4}                         // inc qword [2 MiB]; out 0x80
	probes   = []byte{0x66, 0xBA, 0x00, 0x03, 0xEC, 0x88, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00, 0xB0, 0xFE, 0xE6, 0x64} // in al, 0x300; store; reset
)

func config(code []byte, vcpus int) Config {
	return Config{
		VCPUs: vcpus, MemoryMiB: 64,
		Kernel:      &kernel.Image{Segments: []kernel.Segment{{Addr: codeAddr, Data: code, MemSize: 4096, Offset: -1}}, Entry: codeAddr},
		CommandLine: func(Profile) string { return "quiet" },
	}
}

func build(t *testing.T, c Config) *Machine {
	t.Helper()
	kvmtest.Need(t)
	m, err := New(c)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, m.Close()) })
	return m
}

func wait(t *testing.T, m *Machine) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := m.Wait(ctx)
	require.NoError(t, err, "the machine does not end")
	return r
}

func counter(t *testing.T, m *Machine) uint64 {
	t.Helper()
	b, err := m.Memory().Slice(counterAddr, 8)
	require.NoError(t, err)
	return binary.LittleEndian.Uint64(b)
}

func TestEnds(t *testing.T) {
	for name, c := range map[string]struct {
		code []byte
		want Kind
	}{
		"reset": {reset, Reset}, "power-off": {powerOff, PowerOff}, "panic": {panics, Panic},
		"triple fault": {fault, TripleFault}, "panic and triple fault": {panicUD, Panic},
	} {
		for _, vcpus := range []int{1, 4} {
			t.Run(name, func(t *testing.T) {
				m := build(t, config(c.code, vcpus))
				require.NoError(t, m.Start())
				r := wait(t, m)
				assert.Equal(t, c.want, r.Kind, "%s", r)
				assert.Zero(t, r.VCPU)
				assert.ErrorIs(t, m.Pause(), ErrEnded)
				assert.ErrorIs(t, m.Resume(), ErrEnded)
				assert.ErrorIs(t, m.Start(), ErrEnded)
				m.Stop()
				assert.Equal(t, c.want, wait(t, m).Kind, "the first end counts")
			})
		}
	}
}

func TestStopEndsAnyGuestAtOnce(t *testing.T) {
	for name, code := range map[string][]byte{"spinning": spins, "idle": idles, "exiting": counts} {
		for _, vcpus := range []int{1, 4} {
			t.Run(name, func(t *testing.T) {
				m := build(t, config(code, vcpus))
				require.NoError(t, m.Start())
				time.Sleep(20 * time.Millisecond)
				m.Stop()
				r := wait(t, m)
				assert.Equal(t, Result{Kind: Stopped, VCPU: -1}, r)
			})
		}
	}
}

func TestStopBeforeStart(t *testing.T) {
	m := build(t, config(spins, 1))
	m.Stop()
	assert.Equal(t, Stopped, wait(t, m).Kind)
	assert.ErrorIs(t, m.Start(), ErrEnded)
}

func TestPauseStopsTheGuestAndResumeLetsItGoOn(t *testing.T) {
	m := build(t, config(counts, 2))
	assert.ErrorIs(t, m.Pause(), ErrState, "not started")
	require.NoError(t, m.Start())
	assert.ErrorIs(t, m.Start(), ErrState, "started twice")
	require.NoError(t, m.Resume(), "of a running machine does nothing")
	require.Eventually(t, func() bool { return counter(t, m) > 10 }, patience, time.Millisecond)
	for range 20 {
		require.NoError(t, m.Pause())
		require.NoError(t, m.Pause(), "again")
		before := counter(t, m)
		time.Sleep(2 * time.Millisecond)
		require.Equal(t, before, counter(t, m), "a paused guest runs")
		require.NoError(t, m.Resume())
		require.Eventually(t, func() bool { return counter(t, m) > before }, patience, 100*time.Microsecond)
	}
	assert.Positive(t, m.CPUTime())
}

func TestAffinity(t *testing.T) {
	var host unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &host))
	first := 0
	for !host.IsSet(first) {
		first++
	}
	c := config(counts, 3)
	c.Affinity = [][]int{{first}, {1000}} // no host here has that many; the third has no wish
	m := build(t, c)
	require.NoError(t, m.Start())
	require.Eventually(t, func() bool { return counter(t, m) > 10 }, patience, time.Millisecond)
	of := func(id int) unix.CPUSet {
		var set unix.CPUSet
		require.Eventually(t, func() bool { return m.vcpus[id].tid.Load() != 0 }, patience, time.Millisecond)
		require.NoError(t, unix.SchedGetaffinity(int(m.vcpus[id].tid.Load()), &set))
		return set
	}
	var one unix.CPUSet
	one.Set(first)
	assert.Eventually(t, func() bool { return of(0) == one }, patience, time.Millisecond)
	assert.Equal(t, host, of(1))
	assert.Equal(t, host, of(2))
	var own unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &own))
	assert.Equal(t, host, own, "only the virtual processor's thread")
}

func TestStopWhilePaused(t *testing.T) {
	m := build(t, config(counts, 3))
	require.NoError(t, m.Start())
	require.NoError(t, m.Pause())
	m.Stop()
	assert.Equal(t, Stopped, wait(t, m).Kind)
}

func TestPauseOfAGuestThatEnds(t *testing.T) {
	for range 20 {
		m := build(t, config(reset, 2))
		require.NoError(t, m.Start())
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if m.Pause() == nil {
					_ = m.Resume() // ErrEnded is fine
				}
			})
		}
		wg.Wait()
		assert.Equal(t, Reset, wait(t, m).Kind)
	}
}

func TestUnknownPortsReadAsAnEmptyBus(t *testing.T) {
	m := build(t, config(probes, 1))
	require.NoError(t, m.Start())
	assert.Equal(t, Reset, wait(t, m).Kind)
	assert.EqualValues(t, 0, counter(t, m))
}

func TestSavedMachineGoesOnInAnother(t *testing.T) {
	m := build(t, config(counts, 2))
	require.NoError(t, m.Start())
	_, err := m.SaveState()
	require.ErrorIs(t, err, ErrState, "of a running machine")
	require.Eventually(t, func() bool { return counter(t, m) > 100 }, patience, time.Millisecond)
	require.NoError(t, m.Pause())
	state, err := m.SaveState()
	require.NoError(t, err)
	at := counter(t, m)

	again := build(t, config(spins, 2))
	copy(again.Memory().Regions()[0].Host, m.Memory().Regions()[0].Host)
	require.NoError(t, again.RestoreState(state))
	require.NoError(t, again.Start())
	require.Eventually(t, func() bool { return counter(t, again) > at }, patience, time.Millisecond, "it does not count on")
	assert.ErrorIs(t, again.RestoreState(state), ErrState, "of a started machine")
	require.NoError(t, m.Resume())
	require.Eventually(t, func() bool { return counter(t, m) > at }, patience, time.Millisecond, "the saved machine goes on too")
}

func TestSavedMachineRenewsItsCopies(t *testing.T) {
	asks := slices.Concat([]byte{
		0xB8, 0xF7, 0x00, 0x00, 0x00, // mov eax, 0xF7
		0x66, 0xBA, 0x08, 0x05, 0xEF, // out 0x508, eax
	}, counts)
	m := build(t, config(asks, 1))
	require.NoError(t, m.Start())
	require.Eventually(t, func() bool { return counter(t, m) > 0 }, patience, time.Millisecond)
	require.NoError(t, m.Pause())
	state, err := m.SaveState()
	require.NoError(t, err)

	again := build(t, config(spins, 1))
	copy(again.Memory().Regions()[0].Host, m.Memory().Regions()[0].Host)
	require.NoError(t, again.RestoreState(state))
	generation, at, _ := renewDriver{&again.renewal}.block()
	assert.EqualValues(t, 1, generation)
	assert.False(t, at.IsZero())
	assert.EqualValues(t, 0xF7, again.renewal.wanted(), "for copies of the copy")
	generation, _, _ = renewDriver{&m.renewal}.block()
	assert.Zero(t, generation, "the saved one is the same")
}

func TestSavedMachineGoesOnFromAFile(t *testing.T) {
	m := build(t, config(counts, 2))
	require.NoError(t, m.Start())
	require.Eventually(t, func() bool { return counter(t, m) > 100 }, patience, time.Millisecond)
	require.NoError(t, m.Pause())
	saved := &Saved{}
	var err error
	saved.State, err = m.SaveState()
	require.NoError(t, err)
	at := counter(t, m)
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	for i, base := range []uint64{0, counterAddr, codeAddr} { // what the guest needs: tables, counter, code
		b, err := m.Memory().Slice(base, 1<<20)
		require.NoError(t, err)
		_, err = file.WriteAt(b, int64(i)<<20)
		require.NoError(t, err)
		saved.Extents = append(saved.Extents, Extent{Addr: base, File: file, Offset: int64(i) << 20, Size: 1 << 20})
	}

	c := config(nil, 2)
	c.Kernel, c.CommandLine, c.Saved = nil, nil, saved
	for range 2 {
		again := build(t, c)
		assert.Equal(t, at, counter(t, again), "each starts where the saved one was")
		require.NoError(t, again.Start())
		require.Eventually(t, func() bool { return counter(t, again) > at }, patience, time.Millisecond, "it does not count on")
	}

	c.Saved = &Saved{State: saved.State[:10], Extents: saved.Extents}
	_, err = New(c)
	assert.ErrorIs(t, err, ErrSavedState)
	c.Saved = &Saved{State: saved.State, Extents: []Extent{{Addr: 1 << 40, File: file, Size: 4096}}}
	_, err = New(c)
	assert.ErrorIs(t, err, ErrSavedState)
}

func TestRebasedMachineGoesOn(t *testing.T) {
	m := build(t, config(counts, 2))
	require.NoError(t, m.Start())
	assert.ErrorIs(t, m.Rebase(nil), ErrState, "it runs")
	require.Eventually(t, func() bool { return counter(t, m) > 100 }, patience, time.Millisecond)
	require.NoError(t, m.Pause())
	at := counter(t, m)
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	var extents []Extent
	for _, r := range m.Contents() {
		b, err := m.Memory().Slice(r.Base, r.Size)
		require.NoError(t, err)
		_, err = file.WriteAt(b, int64(r.Base))
		require.NoError(t, err)
		extents = append(extents, Extent{Addr: r.Base, File: file, Offset: int64(r.Base), Size: int64(r.Size)})
	}
	require.NoError(t, m.Rebase(extents))
	assert.Equal(t, at, counter(t, m))
	require.NoError(t, m.Resume())
	require.Eventually(t, func() bool { return counter(t, m) > at }, patience, time.Millisecond, "it does not count on")
	require.NoError(t, m.Pause())
	_, written, err := m.Memory().Touched()
	require.NoError(t, err)
	assert.NotEmpty(t, written)
	var size uint64
	for _, r := range written {
		size += r.Size
	}
	assert.Less(t, size, m.Memory().Size()/2, "the rest is the file's")
}

func TestRestoreRefusesWhatDoesNotFit(t *testing.T) {
	m := build(t, config(counts, 1))
	require.NoError(t, m.Start())
	require.NoError(t, m.Pause())
	state, err := m.SaveState()
	require.NoError(t, err)
	for name, b := range map[string][]byte{
		"empty": nil, "version": append([]byte{99}, state[1:]...), "more": append(slices.Clone(state), 0),
	} {
		assert.ErrorIs(t, build(t, config(counts, 1)).RestoreState(b), ErrSavedState, name)
	}
	for n := 1; n < len(state); n += 1 + len(state)/61 {
		assert.ErrorIs(t, build(t, config(counts, 1)).RestoreState(state[:n]), ErrSavedState, "%d bytes", n)
	}
	assert.ErrorIs(t, build(t, config(counts, 2)).RestoreState(state), ErrSavedState, "two processors")
	c := config(counts, 1)
	c.Vsock = &VsockConfig{GuestCID: 3}
	assert.ErrorIs(t, build(t, c).RestoreState(state), ErrSavedState, "another device")
}

func descriptors(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(d)
}

func TestCloseLeavesNothing(t *testing.T) {
	kvmtest.Need(t)
	before := descriptors(t)
	for _, state := range []string{"new", "running", "paused", "ended"} {
		c := config(counts, 3)
		c.Vsock = &VsockConfig{GuestCID: 3}
		m, err := New(c)
		require.NoError(t, err)
		switch state {
		case "running":
			require.NoError(t, m.Start())
		case "paused":
			require.NoError(t, m.Start())
			require.NoError(t, m.Pause())
		case "ended":
			require.NoError(t, m.Start())
			m.Stop()
		}
		require.NoError(t, m.Close(), state)
		require.NoError(t, m.Close(), "again")
		assert.Equal(t, before, descriptors(t), state)
	}
}

func TestNewFailsWithoutATrace(t *testing.T) {
	kvmtest.Need(t)
	before := descriptors(t)
	ok := config(spins, 1)
	for name, c := range map[string]struct {
		change func(*Config)
		want   error
	}{
		"no processor":         {func(c *Config) { c.VCPUs = 0 }, ErrConfig},
		"too many":             {func(c *Config) { c.VCPUs = MaxVCPUs + 1 }, ErrConfig},
		"little memory":        {func(c *Config) { c.MemoryMiB = MinMemoryMiB - 1 }, ErrConfig},
		"much memory":          {func(c *Config) { c.MemoryMiB = MaxMemoryMiB + 1 }, ErrConfig},
		"no kernel":            {func(c *Config) { c.Kernel = nil }, ErrConfig},
		"no words":             {func(c *Config) { c.CommandLine = nil }, ErrConfig},
		"profile":              {func(c *Config) { c.Profile = "fast" }, ErrConfig},
		"disk without file":    {func(c *Config) { c.Disks = []Disk{{}} }, ErrConfig},
		"share without server": {func(c *Config) { c.Shares = []Share{{Tag: "x"}} }, ErrConfig},
		"share without tag":    {func(c *Config) { c.Shares = []Share{{Backend: &shareBackend{}}} }, ErrConfig},
		"one tag twice":        {func(c *Config) { c.Shares = []Share{{"x", &shareBackend{}}, {"x", &shareBackend{}}} }, ErrConfig},
		"too many shares": {func(c *Config) {
			for i := range 20 {
				c.Shares = append(c.Shares, Share{string(rune('a' + i)), &shareBackend{}})
			}
		}, ErrTooManyDevices},
		"interval":          {func(c *Config) { c.StatsInterval = time.Microsecond }, ErrConfig},
		"host CID":          {func(c *Config) { c.Vsock = &VsockConfig{GuestCID: 2} }, ErrConfig},
		"long command line": {func(c *Config) { c.CommandLine = func(Profile) string { return string(make([]byte, 3000)) } }, ErrConfig},
		"no device":         {func(c *Config) { c.KVM = "/nonexistent" }, kvm.ErrNoDevice},
		"not KVM":           {func(c *Config) { c.KVM = os.DevNull }, kvm.ErrNotKVM},
	} {
		bad := ok
		c.change(&bad)
		_, err := New(bad)
		assert.ErrorIs(t, err, c.want, name)
		assert.Equal(t, before, descriptors(t), name)
	}
}

// shareBackend is a file system server that counts how often it is closed.
type shareBackend struct{ closed int }

func (*shareBackend) Serve(*[40]byte, [][]byte, [][]byte, bool) (uint32, bool) { return 0, false }
func (*shareBackend) Reset()                                                   {}
func (*shareBackend) SaveState() ([]byte, error)                               { return nil, nil }
func (*shareBackend) RestoreState([]byte) error                                { return nil }

func (b *shareBackend) Close() error {
	b.closed++
	return nil
}

// TestSharesAreClosed once, whether the machine comes to be or not.
func TestSharesAreClosed(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"it is built":    func(*Config) {},
		"wrong":          func(c *Config) { c.VCPUs = 0 },
		"no device":      func(c *Config) { c.KVM = "/nonexistent" },
		"too many words": func(c *Config) { c.CommandLine = func(Profile) string { return string(make([]byte, 3000)) } },
		"too many of them": func(c *Config) {
			for i := range 20 {
				c.Shares = append(c.Shares, Share{string(rune('a' + i)), &shareBackend{}})
			}
		},
	} {
		c := config(spins, 1)
		own := &shareBackend{}
		c.Shares = []Share{{"own", own}}
		change(&c)
		all := c.Shares
		if m, err := New(c); err == nil {
			assert.Zero(t, own.closed)
			require.NoError(t, m.Close())
		}
		for _, s := range all {
			assert.Equal(t, 1, s.Backend.(*shareBackend).closed, name)
		}
	}
}

func TestManyMachinesAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		m := build(t, config(counts, 1))
		require.NoError(t, m.Start())
		wg.Go(func() {
			for deadline := time.Now().Add(patience); counter(t, m) < 50; runtime.Gosched() {
				if !assert.True(t, time.Now().Before(deadline), "it does not run") {
					return
				}
			}
			m.Stop()
		})
	}
	wg.Wait()
}
