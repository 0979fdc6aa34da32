package fs

import (
	"sync"
	"time"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// maxQuiet is how many requests may be completed before the guest is told, while there
// are more to serve at once.
const maxQuiet = 8

// lane serves one queue.
type lane struct {
	*activation
	queue  *virtio.Queue
	worker *virtio.Worker // takes requests from the queue; it must not use this field

	mu    sync.Mutex // guards the used ring
	quiet int        // completed since the last notification; protected by mu
	// idle are requests to use again; protected by mu. There are never more of them, and
	// of those in flight, than the queue has entries.
	idle []*request
}

func (l *lane) start() { l.worker = virtio.StartPromptWorker(l.queue.Kick(), l.run) }

// run serves what is in the queue.
func (l *lane) run() {
	if l.broken.Load() {
		return
	}
	more, err := l.drain()
	if err != nil {
		l.breakOff(err)
	} else if more {
		_ = l.queue.Kick().Signal() // fails only when it is closed
	}
}

// drain serves no more than a queue's worth of requests, so that Pause has its turn; more
// means that there may be others.
func (l *lane) drain() (more bool, err error) {
	l.mu.Lock()
	l.queue.DisableKicks()
	l.mu.Unlock()
	for left := l.queue.Size(); err == nil; left-- {
		if more = left == 0; more {
			break
		}
		var r *request
		if r, err = l.take(); r == nil {
			break
		}
		err = l.dispatch(r)
	}
	if err == nil {
		err = l.notify()
	}
	if err != nil || more {
		return more, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue.EnableKicks()
}

// take returns the next request of the queue, nil if there is none.
func (l *lane) take() (*request, error) {
	l.mu.Lock()
	var r *request
	if n := len(l.idle); n > 0 {
		r = l.idle[n-1]
		l.idle = l.idle[:n-1]
	}
	l.mu.Unlock()
	if r == nil {
		r = &request{lane: l}
	}
	ok, err := l.queue.Pop(&r.chain)
	if !ok {
		l.release(r)
		return nil, err
	}
	return r, nil
}

func (l *lane) release(r *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle = append(l.idle, r)
}

// dispatch serves r, here if that is over at once. An error is the end of the queue.
func (l *lane) dispatch(r *request) error {
	if r.chain.Read(0, r.header[:]) < HeaderSize {
		return l.complete(r, 0) // nobody could tell what the answer belongs to
	}
	if waits(&r.header) || l.isSlow() {
		return l.hand(r)
	}
	start := time.Now()
	n, again := l.backend.Serve(&r.header, r.chain.Readable, r.chain.Writable, false)
	if again {
		return l.hand(r)
	}
	if end := time.Now(); end.Sub(start) > slowRequest {
		l.slowUntil.Store(end.Add(slowTime).UnixNano())
	}
	return l.complete(r, n)
}

// hand gives r to a worker.
func (l *lane) hand(r *request) error {
	if err := l.notify(); err != nil {
		return err
	}
	l.enqueue(r)
	return nil
}

// execute has r carried out, however long that takes, and returns it to the guest or puts
// it aside.
func (l *lane) execute(r *request) error {
	n, again := l.backend.Serve(&r.header, r.chain.Readable, r.chain.Writable, true)
	if again {
		l.stats.aside.Add(1)
		l.aside.add(r)
		return nil
	}
	return l.complete(r, n)
}

// complete returns r to the guest and to idle; n bytes of its buffers were filled.
func (l *lane) complete(r *request, n uint32) error {
	l.stats.requests.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.queue.Push(r.chain.Head, n)
	if l.quiet++; l.quiet >= maxQuiet && err == nil {
		l.quiet = 0
		err = l.queue.Notify()
	}
	r.rest = 0
	l.idle = append(l.idle, r)
	return err
}

// notify tells the guest what was completed.
func (l *lane) notify() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.quiet == 0 {
		return nil
	}
	l.quiet = 0
	return l.queue.Notify()
}
