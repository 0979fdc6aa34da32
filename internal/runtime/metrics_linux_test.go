package runtime

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/metrics"
	"github.com/gomsb/gomsb/internal/store"
)

// reserve takes a metrics slot for the sandbox of h, as a controller does.
func (h *home) reserve() (*metrics.Registry, metrics.Reservation) {
	h.t.Helper()
	name := metrics.Name(h.dir)
	r, err := metrics.Create(name, 0)
	require.NoError(h.t, err)
	h.t.Cleanup(func() {
		_ = r.Close()
		_ = os.Remove(filepath.Join("/dev/shm", name))
	})
	v, err := r.Reserve(metrics.Owner{SandboxID: h.id, Name: sandboxName, MemoryLimit: uint64(h.memory) << 20}, metrics.Use{Alive: store.ProcessAlive})
	require.NoError(h.t, err)
	h.config.Metrics.Slot = &launch.MetricsSlot{ShmName: name, Slot: v.Slot, Generation: v.Generation}
	return r, v
}

func TestMetricsOfARun(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	upper := filepath.Join(h.dir, "upper.ext4")
	require.NoError(t, os.WriteFile(upper, make([]byte, 8192), 0o644))
	h.config.Rootfs.Upper = &upper
	r, v := h.reserve()
	p := h.spawn(fakePlan{})
	p.do(p.dial(), "echo x")
	_, run := h.rows()
	var e metrics.Entry
	require.Eventually(t, func() bool {
		var err error
		e, err = r.ByRun(run.ID)
		return err == nil && e.Known.Has(metrics.CPUPercent)
	}, patience, 5*time.Millisecond)
	assert.Equal(t, v, e.Reservation)
	assert.Equal(t, metrics.Owner{SandboxID: h.id, Name: sandboxName, MemoryLimit: 512 << 20}, e.Owner)
	assert.Equal(t, p.PID(), e.PID)
	assert.WithinDuration(t, time.Now(), e.StartedAt, patience)
	assert.WithinDuration(t, time.Now(), e.At, patience)
	assert.Equal(t, metrics.CPUPercent|metrics.MemoryUsed|metrics.MemoryAvailable|metrics.HostResident|metrics.UpperOnHost, e.Known)
	assert.InDelta(t, 50, e.CPUPercent, 25, "the fake machine keeps half a processor busy")
	assert.Equal(t, []uint64{100 << 20, 400 << 20, 1000, 2000}, []uint64{e.MemoryUsed, e.MemoryFree, e.DiskRead, e.DiskWritten})
	assert.InDelta(t, 4<<20, e.HostResident, 40<<20)
	assert.Equal(t, uint64(8192), e.UpperOnHost)
	require.NoError(t, p.Signal(syscall.SIGTERM))
	assert.Equal(t, 0, p.code())
	e, err := r.Read(v.Slot)
	require.NoError(t, err)
	assert.Equal(t, metrics.Stale, e.State)
	assert.NotEqual(t, v.Generation, e.Generation)
	assert.Equal(t, uint64(100<<20), e.MemoryUsed, "the last sample stays")
}

func TestMetricsOfAFailedStart(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	r, v := h.reserve()
	assert.Equal(t, 1, h.spawn(fakePlan{BuildError: "x"}).code())
	e, err := r.Read(v.Slot)
	require.NoError(t, err)
	assert.Equal(t, metrics.Free, e.State)
}

// A slot that is gone, or a registry that cannot be opened, costs the metrics only.
func TestMetricsFail(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*launch.MetricsSlot){
		"generation": func(s *launch.MetricsSlot) { s.Generation++ },
		"slot":       func(s *launch.MetricsSlot) { s.Slot = 1 << 20 },
		"name":       func(s *launch.MetricsSlot) { s.ShmName = "/../../etc/passwd" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			r, v := h.reserve()
			change(h.config.Metrics.Slot)
			p := h.spawn(fakePlan{})
			require.NoError(t, shutdown(p.dial()))
			assert.Equal(t, 0, p.code())
			assert.Contains(t, h.log("runtime.log"), "WARN there will be no metrics")
			e, err := r.Read(v.Slot)
			require.NoError(t, err)
			assert.Equal(t, metrics.Reserved, e.State)
		})
	}
}

// Without an interval the slot is held, but nothing is published.
func TestMetricsDisabled(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.config.Metrics.Disabled = true
	r, v := h.reserve()
	p := h.spawn(fakePlan{})
	p.do(p.dial(), "echo x")
	e, err := r.Read(v.Slot)
	require.NoError(t, err)
	assert.Equal(t, metrics.Active, e.State)
	assert.True(t, e.At.IsZero())
	assert.Zero(t, h.machine().StatsInterval)
	require.NoError(t, p.Signal(syscall.SIGTERM))
	assert.Equal(t, 0, p.code())
}
