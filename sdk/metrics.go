package microsandbox

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/metrics"
	"github.com/gomsb/gomsb/internal/store"
)

// Metrics is a sample of what a sandbox uses. Counters count from its start; a nil
// pointer is a value that is not known.
type Metrics struct {
	CPUPercent              float64 // 100 is one whole processor; 0 in the first sample
	VCPUTimeNs              uint64  // of all virtual processors together
	MemoryBytes             uint64  // used, as the guest reports it; 0 until it does
	MemoryAvailableBytes    *uint64 // what the guest could still use
	MemoryHostResidentBytes *uint64 // host memory behind the guest's
	MemoryLimitBytes        uint64
	DiskReadBytes           uint64
	DiskWriteBytes          uint64
	NetRxBytes              uint64 // received by the guest
	NetTxBytes              uint64
	UpperUsedBytes          *uint64 // of the writable layer, inside
	UpperFreeBytes          *uint64
	UpperHostAllocatedBytes *uint64 // what the writable layer occupies on the host
	Uptime                  time.Duration
	SampledAt               time.Time
}

// MetricsState is whether samples still come.
type MetricsState string

// The states.
const (
	MetricsRunning MetricsState = "running"
	MetricsPaused  MetricsState = "paused"  // of gomsb only
	MetricsStalled MetricsState = "stalled" // the runtime lives, but publishes nothing
	MetricsExited  MetricsState = "exited"  // the last sample of a sandbox that has ended
)

// MetricsReport is a sandbox's newest sample.
type MetricsReport struct {
	Name  string
	State MetricsState
	CPUs  uint8 // 0: unknown, as of a sandbox that was removed
	Metrics
}

const (
	// metricsMinInterval bounds how often a stream looks for samples.
	metricsMinInterval = 100 * time.Millisecond
	// A first sample is waited for three intervals, but at least and at most so long.
	metricsMinWait, metricsMaxWait = 500 * time.Millisecond, 10 * time.Second
	// stalledAfter samples were left out, a sandbox counts as stalled.
	stalledAfter = 5
)

// Metrics returns the newest sample of the running sandbox. It fails with
// ErrMetricsDisabled where none are taken, ErrMetricsUnavailable where none has come yet
// and ErrSandboxNotRunning.
func (h *SandboxHandle) Metrics(ctx context.Context) (*Metrics, error) {
	s, err := h.openMetrics(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close()
	return s.first(ctx)
}

// MetricsStream delivers a sample every interval, rounded up to 100 ms.
func (h *SandboxHandle) MetricsStream(ctx context.Context, interval time.Duration) (*MetricsStreamHandle, error) {
	s, err := h.openMetrics(ctx)
	if err != nil {
		return nil, err
	}
	return &MetricsStreamHandle{source: s, interval: max(interval, metricsMinInterval), closed: make(chan struct{})}, nil
}

// Metrics returns the newest sample; see [SandboxHandle.Metrics].
func (s *Sandbox) Metrics(ctx context.Context) (*Metrics, error) {
	h, err := s.handle(ctx)
	if err != nil {
		return nil, err
	}
	return h.Metrics(ctx)
}

// MetricsStream delivers a sample every interval; see [SandboxHandle.MetricsStream].
func (s *Sandbox) MetricsStream(ctx context.Context, interval time.Duration) (*MetricsStreamHandle, error) {
	h, err := s.handle(ctx)
	if err != nil {
		return nil, err
	}
	return h.MetricsStream(ctx, interval)
}

// AllSandboxMetrics returns the newest samples of all running sandboxes that have one.
func AllSandboxMetrics(ctx context.Context) (map[string]*Metrics, error) {
	reports, err := MetricsReports(ctx, false)
	if err != nil {
		return nil, err
	}
	all := make(map[string]*Metrics, len(reports))
	for i := range reports {
		all[reports[i].Name] = &reports[i].Metrics
	}
	return all, nil
}

// MetricsReports returns the newest samples of all running sandboxes that have one, and
// on request the last ones of those that have ended and whose place nobody has taken.
func MetricsReports(ctx context.Context, exited bool) ([]MetricsReport, error) {
	c, err := openOwnCatalog(ctx, false)
	if errors.Is(err, store.ErrNoDatabase) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer c.close()
	registry, err := metrics.Open(c.home.metrics())
	if errors.Is(err, metrics.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	defer func() { _ = registry.Close() }()
	states := []metrics.State{metrics.Active}
	if exited {
		states = append(states, metrics.Stale)
	}
	newest := map[int32]metrics.Entry{} // of each sandbox
	for _, e := range registry.Entries(states...) {
		if e.At.After(newest[e.SandboxID].At) {
			newest[e.SandboxID] = e
		}
	}
	var all []MetricsReport
	for _, id := range slices.Sorted(maps.Keys(newest)) {
		r, err := c.report(ctx, newest[id])
		if err != nil {
			return nil, err
		}
		if exited || r.State != MetricsExited {
			all = append(all, r)
		}
	}
	return all, nil
}

// report describes an entry. The sandbox may have been removed.
func (c *catalog) report(ctx context.Context, e metrics.Entry) (MetricsReport, error) {
	r := MetricsReport{Name: e.Name, State: MetricsExited, Metrics: *sampleOf(e)}
	row, err := c.store.SandboxByID(ctx, e.SandboxID)
	if errors.Is(err, store.ErrNotFound) {
		return r, nil
	}
	if err != nil {
		return r, wrap(ErrInternal, err)
	}
	r.Name = row.Name // the registry's may have been cut
	var interval time.Duration
	if s, err := effectiveSpec(row); err == nil {
		r.CPUs, interval = s.Resources.CPUs, s.metricsInterval()
	}
	if e.State == metrics.Active && live(row.Status) && isRuntime(e.PID, e.SandboxID) {
		switch {
		case c.paused(ctx, row):
			r.State = MetricsPaused
		case interval > 0 && time.Since(e.At) > stalledAfter*max(interval, metricsMinInterval):
			r.State = MetricsStalled
		default:
			r.State = MetricsRunning
		}
	}
	return r, nil
}

// metricsSource reads one run's samples.
type metricsSource struct {
	name     string
	registry *metrics.Registry
	run      int32
	pid      int
	sandbox  int32
	interval time.Duration // at which the runtime publishes them
}

func (h *SandboxHandle) openMetrics(ctx context.Context) (src *metricsSource, err error) {
	err = h.onCatalog(ctx, func(c *catalog, row store.Sandbox) error {
		src, err = c.metricsOf(ctx, row)
		return err
	})
	return src, err
}

func (c *catalog) metricsOf(ctx context.Context, row store.Sandbox) (*metricsSource, error) {
	if !live(row.Status) {
		return nil, fail(ErrSandboxNotRunning, "sandbox %s is not running", row.Name)
	}
	s, err := effectiveSpec(row)
	if err != nil {
		return nil, err
	}
	if s.metricsInterval() == 0 {
		return nil, fail(ErrMetricsDisabled, "metrics disabled for sandbox: %s", row.Name)
	}
	run, err := c.store.ActiveRun(ctx, row.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, metricsUnavailable(row.Name)
	}
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	registry, err := metrics.Open(c.home.metrics())
	if errors.Is(err, metrics.ErrNotFound) {
		return nil, metricsUnavailable(row.Name)
	}
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	return &metricsSource{name: row.Name, registry: registry, run: run.ID, pid: run.PID, sandbox: row.ID, interval: s.metricsInterval()}, nil
}

func metricsUnavailable(name string) error {
	return fail(ErrMetricsUnavailable, "metrics unavailable for sandbox: %s", name)
}

func (s *metricsSource) close() { _ = s.registry.Close() }

func (s *metricsSource) alive() bool { return isRuntime(s.pid, s.sandbox) }

// first waits for the first sample.
func (s *metricsSource) first(ctx context.Context) (*Metrics, error) {
	give := time.After(min(max(3*s.interval, metricsMinWait), metricsMaxWait))
	for {
		if m := s.newest(); m != nil {
			return m, nil
		}
		if !s.alive() {
			return nil, fail(ErrSandboxNotRunning, "sandbox %s is not running", s.name)
		}
		select {
		case <-ctx.Done():
			return nil, cancelled(ctx)
		case <-give:
			return nil, metricsUnavailable(s.name)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// newest is the newest sample, nil before the first and after the run's end.
func (s *metricsSource) newest() *Metrics {
	e, err := s.registry.ByRun(s.run)
	if err != nil || e.At.IsZero() {
		return nil
	}
	return sampleOf(e)
}

// sampleOf makes a sample of what was read.
func sampleOf(e metrics.Entry) *Metrics {
	known := func(f metrics.Field, v uint64) *uint64 {
		if !e.Known.Has(f) {
			return nil
		}
		return &v
	}
	m := &Metrics{
		VCPUTimeNs: uint64(e.VCPUTime), MemoryAvailableBytes: known(metrics.MemoryAvailable, e.MemoryFree),
		MemoryHostResidentBytes: known(metrics.HostResident, e.HostResident), MemoryLimitBytes: e.MemoryLimit,
		DiskReadBytes: e.DiskRead, DiskWriteBytes: e.DiskWritten, NetRxBytes: e.NetReceived, NetTxBytes: e.NetSent,
		UpperUsedBytes: known(metrics.UpperUsed, e.UpperUsed), UpperFreeBytes: known(metrics.UpperFree, e.UpperFree),
		UpperHostAllocatedBytes: known(metrics.UpperOnHost, e.UpperOnHost), SampledAt: e.At,
	}
	if e.Known.Has(metrics.CPUPercent) {
		m.CPUPercent = float64(e.CPUPercent)
	}
	if e.Known.Has(metrics.MemoryUsed) {
		m.MemoryBytes = e.MemoryUsed
	}
	if !e.StartedAt.IsZero() {
		m.Uptime = max(e.At.Sub(e.StartedAt), 0)
	}
	return m
}

// MetricsStreamHandle delivers samples one by one. It belongs to one consumer.
type MetricsStreamHandle struct {
	source   *metricsSource
	interval time.Duration

	mu     sync.Mutex // held by Recv: next, over
	next   time.Time  // when the next sample is due, zero before the first
	over   bool
	once   sync.Once
	closed chan struct{}
}

// Recv waits for the next sample; nil without an error at the end of the sandbox or the
// stream.
func (h *MetricsStreamHandle) Recv(ctx context.Context) (*Metrics, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil, cancelled(ctx)
	case <-h.closed:
		return nil, nil
	case <-time.After(time.Until(h.next)):
	}
	if h.over {
		return nil, nil
	}
	if h.next.IsZero() {
		return h.start(ctx)
	}
	h.next = time.Now().Add(h.interval)
	m := h.source.newest()
	if h.over = m == nil || !h.source.alive(); h.over { // one that was killed leaves its last sample
		return nil, nil
	}
	return m, nil
}

// start waits for the first sample.
func (h *MetricsStreamHandle) start(ctx context.Context) (*Metrics, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-h.closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	m, err := h.source.first(ctx)
	switch {
	case IsKind(err, ErrSandboxNotRunning):
		h.over = true
		return nil, nil
	case h.isClosed():
		return nil, nil
	}
	if err == nil {
		h.next = time.Now().Add(h.interval)
	}
	return m, err
}

func (h *MetricsStreamHandle) isClosed() bool {
	select {
	case <-h.closed:
		return true
	default:
		return false
	}
}

// Close ends the stream. It may be called while Recv waits, and again.
func (h *MetricsStreamHandle) Close() error {
	h.once.Do(func() {
		close(h.closed)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.over = true
		h.source.close()
	})
	return nil
}

// metricsPlace is a place in the registry of samples for a runtime that is about to
// start; nil is none.
type metricsPlace struct {
	registry *metrics.Registry
	slot     metrics.Reservation
}

// reserveMetrics takes a place and tells the runtime of it. A sandbox runs without
// metrics where there is none.
func (b *boot) reserveMetrics(ctx context.Context, cfg *launch.Config) *metricsPlace {
	if b.spec.metricsInterval() == 0 {
		return nil
	}
	name := b.home.metrics()
	registry, err := metrics.Create(name, b.home.settings.Metrics.Capacity)
	if err != nil {
		return nil
	}
	slot, err := registry.Reserve(metrics.Owner{
		SandboxID: b.row.ID, Name: b.spec.Name, MemoryLimit: uint64(b.spec.Resources.MemoryMiB) << 20,
	}, metrics.Use{Alive: store.ProcessAlive, Starting: func(sandbox int32) bool { return b.starting(ctx, sandbox) }})
	if err != nil {
		_ = registry.Close()
		return nil
	}
	cfg.Metrics.Slot = &launch.MetricsSlot{ShmName: name, Slot: slot.Slot, Generation: slot.Generation}
	return &metricsPlace{registry: registry, slot: slot}
}

// starting reports whether somebody may be starting a sandbox now, besides b.
func (b *boot) starting(ctx context.Context, sandbox int32) bool {
	if sandbox == b.row.ID {
		return false
	}
	row, err := b.store.SandboxByID(ctx, sandbox)
	if err != nil {
		return !errors.Is(err, store.ErrNotFound)
	}
	lock, err := launch.AcquireLock(b.home.run(), row.Name)
	if err != nil {
		return true
	}
	_ = lock.Release()
	return false
}

// settle leaves the place to the runtime, or takes it back from one that did not start.
func (p *metricsPlace) settle(started bool) {
	if p == nil {
		return
	}
	if !started {
		p.registry.Free(p.slot)
	}
	_ = p.registry.Close()
}

// metricsInterval is how often samples are taken; 0: never.
func (s *spec) metricsInterval() time.Duration {
	if s.Runtime.DisableMetrics {
		return 0
	}
	return time.Duration(min(s.Runtime.MetricsSampleInterval, uint64(time.Hour/time.Millisecond))) * time.Millisecond
}
