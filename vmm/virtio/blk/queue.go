package blk

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/gomsb/gomsb/vmm/virtio"
)

const (
	// maxWorkers is how many requests may wait for the backend at a time.
	maxWorkers = 4
	// maxRequests adds those that the queue's goroutine holds: the one to serve and the
	// one after it.
	maxRequests = maxWorkers + 2
	// maxQuiet is how many requests may be completed before the guest is told, while
	// there are more to serve at once.
	maxQuiet = 8
)

// request is one request in flight. It is reused.
type request struct {
	chain  virtio.Chain
	header header
	extent extent   // of a read or write
	data   [][]byte // of a read, a write or an identification; the buffer of status left out
}

// activation serves the queue from Activate to Reset.
type activation struct {
	*Device
	queue *virtio.Queue
	fail  func(error)
	// writeThrough flushes after each write, for a driver that does not flush.
	writeThrough bool

	worker *virtio.Worker // takes requests from the queue; it must not use this field
	broken atomic.Bool    // the guest broke the queue; nothing is served any more
	idle   chan *request  // not in flight; never full
	work   chan *request  // for the workers; never full
	helped int            // workers that were started; the queue's goroutine alone touches it
	busy   atomic.Int32   // requests given to workers
	flight sync.WaitGroup // the same, to wait for
	wg     sync.WaitGroup // workers

	used  sync.Mutex // guards the used ring
	quiet int        // completed since the last notification; protected by used
}

func startActivation(d *Device, a virtio.Activation) *activation {
	act := &activation{
		Device: d, queue: a.Queues[0], fail: a.Fail,
		// A driver that does not know flushes takes a completed write for durable
		// (virtio 1.2 §5.2.6.2).
		writeThrough: !d.readOnly && a.Features&featureFlush == 0,
		idle:         make(chan *request, maxRequests),
		work:         make(chan *request, maxRequests),
	}
	for range maxRequests {
		act.idle <- new(request)
	}
	act.worker = virtio.StartPromptWorker(act.queue.Kick(), act.run)
	return act
}

// Pause returns when the queue's goroutine rests and the workers have nothing to do.
func (a *activation) Pause() {
	a.worker.Pause()
	a.flight.Wait()
}

func (a *activation) Resume() { a.worker.Resume() }

func (a *activation) End() {
	a.worker.Stop()
	close(a.work)
	a.wg.Wait()
}

// run serves what is in the queue.
func (a *activation) run() {
	if a.broken.Load() {
		return
	}
	more, err := a.drain()
	if err != nil {
		a.breakOff(err)
	} else if more {
		_ = a.queue.Kick().Signal() // fails only when it is closed
	}
}

// breakOff gives up the queue.
func (a *activation) breakOff(err error) {
	if a.broken.Swap(true) {
		return
	}
	a.log.Warn("block device needs a reset", "error", err)
	a.fail(fmt.Errorf("blk: %w", err))
}

// drain serves no more than a queue's worth of requests, so that Pause has its turn; more
// means that there may be others.
func (a *activation) drain() (more bool, err error) {
	a.used.Lock()
	a.queue.DisableKicks()
	a.used.Unlock()
	r, err := a.next()
	for left := a.queue.Size(); r != nil && err == nil; left-- {
		// Whether the guest waits for r alone is known only after a look at the next.
		var follower *request
		if left > 0 {
			if follower, err = a.next(); err != nil {
				break
			}
		}
		if err = a.dispatch(r, follower == nil); left == 0 {
			more = true
		}
		r = follower
	}
	if err = errors.Join(err, a.notify()); err != nil || more {
		return more, err
	}
	a.used.Lock()
	defer a.used.Unlock()
	return a.queue.EnableKicks()
}

// next takes a request from the queue, nil if there is none. It waits if all the workers
// are busy.
func (a *activation) next() (*request, error) {
	r := <-a.idle
	ok, err := a.queue.Pop(&r.chain)
	if !ok {
		a.idle <- r
		return nil, err
	}
	return r, nil
}

// hand gives r to a worker.
func (a *activation) hand(r *request) error {
	if err := a.notify(); err != nil {
		return err
	}
	a.flight.Add(1)
	if int(a.busy.Add(1)) > a.helped && a.helped < maxWorkers {
		a.helped++
		a.wg.Go(a.help)
	}
	a.work <- r
	return nil
}

// help is a worker.
func (a *activation) help() {
	for r := range a.work {
		s, n := a.execute(r)
		err := a.complete(r, s, n)
		a.busy.Add(-1)
		if err = errors.Join(err, a.notify()); err != nil {
			a.breakOff(err)
		}
		a.flight.Done()
	}
}

// complete returns r, which has room for a status, to the guest and to idle; n bytes of
// its buffers were filled.
func (a *activation) complete(r *request, s status, n uint32) error {
	last := r.chain.Writable[len(r.chain.Writable)-1]
	last[len(last)-1] = byte(s)
	if s != statusOK {
		a.stats.failed.Add(1)
	}
	a.used.Lock()
	err := a.queue.Push(r.chain.Head, n)
	if a.quiet++; a.quiet >= maxQuiet && err == nil {
		a.quiet = 0
		err = a.queue.Notify()
	}
	a.used.Unlock()
	a.idle <- r
	return err
}

// notify tells the guest what was completed.
func (a *activation) notify() error {
	a.used.Lock()
	defer a.used.Unlock()
	if a.quiet == 0 {
		return nil
	}
	a.quiet = 0
	return a.queue.Notify()
}
