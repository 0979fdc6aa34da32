//go:build linux

package serve

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gomsb/gomsb/guestagent/flow"
)

// errStalled reports a session that takes no input while all others wait for it.
var errStalled = errors.New("input was not taken for too long")

// budget is what all inboxes share.
type budget struct {
	used  atomic.Int64
	limit int64         // bytes of all inboxes together
	each  int           // bytes of one
	stall time.Duration // how long one may hold up everything
	waits func(bool)    // told when everything begins to wait for one, and when that ends
}

// inbox holds a session's data from the host until the guest takes it. One goroutine
// puts, another one takes.
type inbox struct {
	b      *budget
	window *flow.Window       // of a client that keeps to it, else nil; used by who takes
	tell   func(limit uint64) // tells the client
	ready  chan struct{}      // there may be something to take
	space  chan struct{}      // there may be room

	mu     sync.Mutex
	chunks [][]byte // protected by mu
	size   int      // protected by mu
	taken  uint64   // how often take was called; protected by mu
	eof    bool     // nothing follows the chunks; protected by mu
	closed bool     // takes nothing any more; protected by mu
}

func newInbox(b *budget) *inbox {
	return &inbox{b: b, ready: make(chan struct{}, 1), space: make(chan struct{}, 1)}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// put takes over p. It waits for room, and gives the inbox up with errStalled if nothing
// is taken for too long. A closed inbox swallows everything.
func (q *inbox) put(p []byte) error {
	done, seen := q.tryPut(p)
	if done {
		return nil
	}
	q.b.waits(true)
	defer q.b.waits(false)
	timer := time.NewTimer(q.b.stall)
	defer timer.Stop()
	for {
		stalled := false
		select {
		case <-q.space:
		case <-timer.C:
			stalled = true
		}
		done, taken := q.tryPut(p)
		switch {
		case done:
			return nil
		case taken != seen:
			seen = taken
			timer.Reset(q.b.stall)
		case stalled:
			q.close()
			return errStalled
		}
	}
}

func (q *inbox) tryPut(p []byte) (done bool, taken uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(p)
	switch {
	case q.closed || q.eof:
		return true, q.taken
	case q.size > 0 && (q.size+n > q.b.each || q.b.used.Load()+int64(n) > q.b.limit):
		return false, q.taken
	}
	q.chunks = append(q.chunks, p)
	q.size += n
	q.b.used.Add(int64(n))
	poke(q.ready)
	return true, q.taken
}

// end says that nothing follows.
func (q *inbox) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.eof = true
	poke(q.ready)
}

// close drops what was not taken. take then returns false.
func (q *inbox) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.b.used.Add(-int64(q.size))
	q.chunks, q.size = nil, 0
	poke(q.ready)
	poke(q.space)
}

// take waits for the next chunk; nil is the end of the data. ok is false once the inbox
// is closed.
func (q *inbox) take() (p []byte, ok bool) {
	for {
		if p, ok, done := q.tryTake(); done {
			q.took(len(p))
			return p, ok
		}
		<-q.ready
	}
}

func (q *inbox) tryTake() (p []byte, ok, done bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		poke(q.ready) // every later call returns at once as well
		return nil, false, true
	case len(q.chunks) > 0:
		p = q.chunks[0]
		q.chunks[0] = nil
		q.chunks = q.chunks[1:]
		q.size -= len(p)
		q.taken++
		q.b.used.Add(-int64(len(p)))
		poke(q.space)
		return p, true, true
	case q.eof:
		return nil, true, true
	}
	return nil, false, false
}
