package microsandbox

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/metrics"
	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

// Cases 91 and 92 of the SDK's conformance list.
func TestMetrics(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	sb := create(t, "measured", WithMemory(64))
	m, err := sb.Metrics(ctx)
	require.NoError(t, err)
	assert.EqualValues(t, 64<<20, m.MemoryLimitBytes)
	assert.False(t, m.SampledAt.IsZero())

	h, err := GetSandbox(ctx, "measured")
	require.NoError(t, err)
	stream, err := h.MetricsStream(ctx, 0)
	require.NoError(t, err)
	var last time.Duration
	for range 3 {
		m, err := stream.Recv(ctx)
		require.NoError(t, err)
		require.NotNil(t, m)
		assert.GreaterOrEqual(t, m.Uptime, last)
		last = m.Uptime
	}
	require.NoError(t, stream.Close())
	require.NoError(t, stream.Close())
	m, err = stream.Recv(ctx)
	assert.NoError(t, err)
	assert.Nil(t, m)
}

func TestMetricsStreamEndsWithTheSandbox(t *testing.T) {
	for name, end := range map[string]func(*Sandbox) error{
		"stopped": func(s *Sandbox) error { return s.Stop(testContext(t)) },
		"killed":  func(s *Sandbox) error { return s.Kill(testContext(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			newGuests(t, runtimetest.Guest{})
			ctx := testContext(t)
			sb := create(t, "short")
			stream, err := sb.MetricsStream(ctx, time.Millisecond)
			require.NoError(t, err)
			defer func() { assert.NoError(t, stream.Close()) }()
			m, err := stream.Recv(ctx)
			require.NoError(t, err)
			require.NotNil(t, m)
			require.NoError(t, end(sb))
			for m != nil {
				m, err = stream.Recv(ctx)
				require.NoError(t, err)
			}
			_, err = sb.Metrics(ctx)
			assert.True(t, IsKind(err, ErrSandboxNotRunning), "%v", err)
		})
	}
}

func TestMetricsStreamCanBeLeft(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	sb := create(t, "left")
	stream, err := sb.MetricsStream(testContext(t), time.Hour)
	require.NoError(t, err)
	_, err = stream.Recv(testContext(t))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(testContext(t))
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err = stream.Recv(ctx)
	assert.True(t, IsKind(err, ErrCancelled), "%v", err)
	time.AfterFunc(10*time.Millisecond, func() { _ = stream.Close() })
	m, err := stream.Recv(testContext(t))
	assert.NoError(t, err)
	assert.Nil(t, m)
}

// A wait for the first sample that is given up does not end the stream.
func TestMetricsStreamBeforeTheFirstSample(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	r, err := metrics.Create(h.metrics(), 1)
	require.NoError(t, err)
	defer func() { _ = r.Close() }()
	place, err := r.Reserve(metrics.Owner{SandboxID: 1}, metrics.Use{})
	require.NoError(t, err)
	w, err := r.Activate(place, metrics.Run{ID: 5, PID: os.Getpid()})
	require.NoError(t, err)
	sb := create(t, "late") // without a place of its own
	stream, err := sb.MetricsStream(testContext(t), 0)
	require.NoError(t, err)
	defer func() { assert.NoError(t, stream.Close()) }()
	stream.source.run = 5
	for _, wait := range []time.Duration{metricsMinInterval / 10, 2 * metricsMinInterval} {
		ctx, cancel := context.WithTimeout(testContext(t), wait)
		defer cancel()
		_, err = stream.Recv(ctx)
		require.True(t, IsKind(err, ErrCancelled), "%v", err)
	}
	require.NoError(t, w.Sample(&metrics.Sample{At: time.Now()}))
	for range 2 {
		m, err := stream.Recv(testContext(t))
		require.NoError(t, err)
		require.NotNil(t, m)
	}
}

// Case 93.
func TestAllSandboxMetrics(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	none, err := AllSandboxMetrics(ctx)
	require.NoError(t, err)
	assert.Empty(t, none)
	create(t, "one")
	two := create(t, "two")
	both := func() bool {
		all, err := AllSandboxMetrics(ctx)
		return err == nil && len(all) == 2 && all["one"] != nil && all["two"] != nil
	}
	require.Eventually(t, both, 30*time.Second, 10*time.Millisecond)

	// The runtime is stopped: it lives, but publishes nothing.
	pid := runtimePID(t, h, "one")
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	state := func(name string) MetricsState {
		all, err := MetricsReports(ctx, true)
		require.NoError(t, err)
		for _, r := range all {
			if r.Name == name {
				return r.State
			}
		}
		return ""
	}
	assert.Eventually(t, func() bool { return state("one") == MetricsStalled }, 30*time.Second, 50*time.Millisecond)
	require.NoError(t, syscall.Kill(pid, syscall.SIGCONT))
	require.NoError(t, two.Pause(ctx))
	assert.Equal(t, MetricsPaused, state("two"))
	require.NoError(t, two.Resume(ctx))
	assert.Equal(t, MetricsRunning, state("two"))
	require.NoError(t, two.Stop(ctx))
	assert.Equal(t, MetricsExited, state("two"))
	require.NoError(t, RemoveSandbox(ctx, "two"))
	assert.Equal(t, MetricsExited, state("two"), "the last sample outlives its sandbox")
	all, err := AllSandboxMetrics(ctx)
	require.NoError(t, err)
	assert.NotContains(t, all, "two")
}

// A report is of the machine that runs, not of the one that the next start makes.
func TestMetricsReportOfAChangedSandbox(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	sb := create(t, "changed", WithCPUs(2))
	_, err := sb.Metrics(ctx)
	require.NoError(t, err)
	c, err := openOwnCatalog(ctx, false)
	require.NoError(t, err)
	defer c.close()
	row, err := c.store.Sandbox(ctx, "changed")
	require.NoError(t, err)
	s, err := parseSpec(row.Config)
	require.NoError(t, err)
	s.Resources.CPUs = 1
	text, err := json.Marshal(s)
	require.NoError(t, err)
	require.NoError(t, c.store.SetConfig(ctx, row.ID, string(text), nil))
	all, err := MetricsReports(ctx, false)
	require.NoError(t, err)
	require.Len(t, all, 1)
	assert.EqualValues(t, 2, all[0].CPUs)
}

// A place in the registry is given back by a runtime that does not come up, and the
// place of one that was killed is taken over.
func TestMetricsPlaces(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{BuildError: "no machine"})
	ctx := testContext(t)
	_, err := CreateSandbox(ctx, "broken", WithImage(testImage), WithPullPolicy(PullPolicyNever))
	require.Error(t, err)
	r, err := metrics.Open(h.metrics())
	require.NoError(t, err)
	defer func() { _ = r.Close() }()
	assert.Empty(t, r.Entries(metrics.Reserved, metrics.Active))

	runtimetest.Use(t, runtimetest.Guest{})
	for range 3 {
		sb := create(t, "again", WithReplace())
		_, err := sb.Metrics(ctx)
		require.NoError(t, err)
		require.NoError(t, syscall.Kill(runtimePID(t, h, "again"), syscall.SIGKILL))
		_, err = sb.WaitUntilStopped(ctx)
		require.NoError(t, err)
	}
	assert.Empty(t, r.Entries(metrics.Reserved))
	assert.LessOrEqual(t, len(r.Entries(metrics.Active)), 3)
}

// The places of creators that were killed before they started a runtime are taken over,
// those of others are not.
func TestAbandonedMetricsPlaces(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	other := create(t, "other")
	row, err := GetSandbox(ctx, "other")
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join("/dev/shm", h.metrics())))
	r, err := metrics.Create(h.metrics(), 2)
	require.NoError(t, err)
	defer func() { _ = r.Close() }()
	_, err = r.Reserve(metrics.Owner{SandboxID: row.row.ID}, metrics.Use{})
	require.NoError(t, err)
	gone, err := r.Reserve(metrics.Owner{SandboxID: 1000}, metrics.Use{})
	require.NoError(t, err)

	_, err = create(t, "first").Metrics(ctx)
	require.NoError(t, err)
	active := r.Entries(metrics.Active)
	require.Len(t, active, 1)
	assert.Equal(t, gone.Slot, active[0].Slot)
	_, err = create(t, "second").Metrics(ctx)
	assert.True(t, IsKind(err, ErrMetricsUnavailable), "the other's lock is held: %v", err)
	require.NoError(t, other.Stop(ctx))
	_, err = create(t, "third").Metrics(ctx)
	require.NoError(t, err)
}

// A sandbox runs without metrics where there can be no registry.
func TestMetricsUnavailable(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	file := filepath.Join("/dev/shm", h.metrics())
	require.NoError(t, os.WriteFile(file, make([]byte, 4096), 0o600))
	sb := create(t, "blind")
	_, err := sb.Metrics(ctx)
	require.Error(t, err)
	assert.Contains(t, err.Error(), "metrics registry")
	require.NoError(t, os.Remove(file))
	_, err = sb.Metrics(ctx)
	assert.True(t, IsKind(err, ErrMetricsUnavailable), "%v", err)
	assert.EqualError(t, err, "metrics unavailable for sandbox: blind")
}
