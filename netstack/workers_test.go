package netstack

import (
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newWorkers(t testing.TB) *workers {
	w := &workers{}
	w.init()
	t.Cleanup(w.close)
	return w
}

// resting is how many goroutines wait for something to do.
func (w *workers) resting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.idle
}

// goroutine is the number of the one that calls it.
func goroutine() string {
	b := make([]byte, 64)
	return strings.Fields(string(b[:runtime.Stack(b, false)]))[1]
}

func TestWorkersCallEverything(t *testing.T) {
	t.Parallel()
	w := newWorkers(t)
	const calls = 1000
	var wg sync.WaitGroup
	wg.Add(calls)
	for i := range calls {
		if i%2 == 0 {
			w.run(wg.Done)
			continue
		}
		go w.lend(wg.Done)
	}
	wg.Wait()
	assert.Eventually(t, func() bool { return w.resting() > 0 }, time.Minute, time.Millisecond)
}

// TestWorkersWaitForNobody: one that takes long does not keep others from being called.
func TestWorkersWaitForNobody(t *testing.T) {
	t.Parallel()
	w := newWorkers(t)
	const calls = 3 * maxIdle
	var wg, met sync.WaitGroup
	met.Add(calls)
	wg.Add(calls)
	for range calls {
		w.run(func() {
			defer wg.Done()
			met.Done()
			met.Wait()
		})
	}
	wg.Wait()
	require.Eventually(t, func() bool { return w.resting() == maxIdle }, time.Minute, time.Millisecond)
}

// TestWorkersReuseStacks: what is called one after the other is called by one goroutine.
func TestWorkersReuseStacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkers(t)
		numbers := map[string]bool{}
		for range 20 {
			w.run(func() { numbers[goroutine()] = true })
			synctest.Wait()
		}
		assert.Len(t, numbers, 1)
	})
}

func TestWorkersCloseWaits(t *testing.T) {
	t.Parallel()
	w := &workers{}
	w.init()
	begun, end, closed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	w.run(func() { close(begun); <-end })
	<-begun
	go func() { w.close(); close(closed) }()
	select {
	case <-closed:
		t.Fatal("it did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	close(end)
	<-closed
}
