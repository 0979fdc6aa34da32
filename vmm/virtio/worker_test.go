package virtio_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/event"
	"github.com/gomsb/gomsb/vmm/virtio"
)

const (
	patience = 10 * time.Second
	quiet    = 20 * time.Millisecond
)

// working is a worker whose function says when it begins and ends when it may.
type working struct {
	*virtio.Worker
	kick    *event.Event
	begins  chan struct{}
	permits chan struct{}
	running atomic.Bool
}

func newWorking(t *testing.T) *working {
	t.Helper()
	return startWorking(t, virtio.StartWorker)
}

func startWorking(t *testing.T, start func(*event.Event, func()) *virtio.Worker) *working {
	t.Helper()
	kick, err := event.New()
	require.NoError(t, err)
	w := &working{kick: kick, begins: make(chan struct{}, 100), permits: make(chan struct{}, 100)}
	w.Worker = start(kick, func() {
		w.running.Store(true)
		w.begins <- struct{}{}
		<-w.permits
		w.running.Store(false)
	})
	t.Cleanup(func() {
		close(w.permits)
		w.Stop()
		assert.NoError(t, kick.Close())
	})
	return w
}

func (w *working) begin(t *testing.T) {
	t.Helper()
	select {
	case <-w.begins:
	case <-time.After(patience):
		require.Fail(t, "the function does not run")
	}
}

func (w *working) idle(t *testing.T) {
	t.Helper()
	select {
	case <-w.begins:
		require.Fail(t, "the function runs")
	case <-time.After(quiet):
	}
}

// eachWorker runs a test with both kinds of workers.
func eachWorker(t *testing.T, test func(t *testing.T, w *working)) {
	t.Parallel()
	for name, start := range map[string]func(*event.Event, func()) *virtio.Worker{
		"plain": virtio.StartWorker, "prompt": virtio.StartPromptWorker,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, startWorking(t, start))
		})
	}
}

func TestWorkerRunsOnceAtItsStartAndAfterEachKick(t *testing.T) {
	eachWorker(t, runsAfterEachKick)
}

func runsAfterEachKick(t *testing.T, w *working) {
	w.begin(t)
	w.permits <- struct{}{}
	w.idle(t)
	require.NoError(t, w.kick.Signal())
	w.begin(t)
	require.NoError(t, w.kick.Signal()) // while it runs
	w.permits <- struct{}{}
	w.begin(t)
	w.permits <- struct{}{}
	w.idle(t)
	w.Wake()
	w.begin(t)
	w.permits <- struct{}{}
}

func TestWorkerPause(t *testing.T) {
	eachWorker(t, pauses)
}

func pauses(t *testing.T, w *working) {
	w.begin(t)
	paused := make(chan struct{})
	go func() {
		w.Pause()
		assert.False(t, w.running.Load(), "Pause waits")
		close(paused)
	}()
	select {
	case <-paused:
		require.Fail(t, "paused while the function runs")
	case <-time.After(quiet):
	}
	w.permits <- struct{}{}
	<-paused
	w.Pause() // twice is once
	require.NoError(t, w.kick.Signal())
	w.idle(t)
	w.Resume()
	w.begin(t) // the kick is not lost
	w.permits <- struct{}{}
	w.Resume()
	w.idle(t)
}

func TestWorkerStopDoesNotRunAgain(t *testing.T) {
	t.Parallel()
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		w := newWorking(t)
		w.begin(t)
		w.permits <- struct{}{}
		w.idle(t)
		w.Stop()
		w.Stop()
		w.Wake()
		w.idle(t)
	})
	t.Run("paused, with a kick", func(t *testing.T) {
		t.Parallel()
		w := newWorking(t)
		w.begin(t)
		w.permits <- struct{}{}
		w.Pause()
		require.NoError(t, w.kick.Signal())
		w.Stop() // what came while a machine was saved is not for this device any more
		w.idle(t)
	})
	t.Run("running", func(t *testing.T) {
		t.Parallel()
		w := newWorking(t)
		w.begin(t)
		require.NoError(t, w.kick.Signal())
		stopped := make(chan struct{})
		go func() {
			w.Stop()
			close(stopped)
		}()
		select {
		case <-stopped:
			require.Fail(t, "stopped while the function runs")
		case <-time.After(quiet):
		}
		w.permits <- struct{}{}
		<-stopped
		w.idle(t)
	})
	t.Run("kick closed", func(t *testing.T) {
		t.Parallel()
		w := newWorking(t)
		w.begin(t)
		closed := make(chan error, 1)
		go func() { closed <- w.kick.Close() }() // may wait for the function
		w.permits <- struct{}{}
		w.Stop()
		require.NoError(t, <-closed)
		w.idle(t)
	})
}
