package relay

import (
	"net"
	"sync"

	"github.com/gomsb/gomsb/guestagent/flow"
)

// queueBytes is how much a client may leave unread before the guest has to wait. One
// frame always fits an empty queue.
const queueBytes = 16 << 20

// windowBytes is how much of one session may be on its way to its client, where the guest
// takes part in it. Some thirty sessions that nobody reads fill the queue.
const windowBytes = 512 << 10

// queue holds frames on their way to one client. One goroutine pushes, one takes.
type queue struct {
	pool *framePool
	flow *flow.Teller // nil if the guest knows no windows

	mu      sync.Mutex
	frames  []*frame                // protected by mu
	bytes   int                     // protected by mu
	windows map[uint32]*flow.Window // by id, of the sessions that have one; protected by mu
	closed  bool                    // no more pushes; protected by mu

	ready chan struct{} // there may be something to take
	space chan struct{} // there may be room
}

func newQueue(pool *framePool, teller *flow.Teller) *queue {
	return &queue{pool: pool, flow: teller, windows: make(map[uint32]*flow.Window), ready: make(chan struct{}, 1), space: make(chan struct{}, 1)}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// push takes over one reference of f, and reports false, leaving the reference, while the
// queue is full. A queue that is closed swallows f.
func (q *queue) push(f *frame) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		q.pool.release(f)
		return true
	}
	if q.bytes > 0 && q.bytes+len(f.buf) > queueBytes {
		return false
	}
	q.frames = append(q.frames, f)
	q.bytes += len(f.buf)
	poke(q.ready)
	return true
}

// open gives a session that is about to begin a window, and appends what tells the guest.
// With input it asks for limits of the session's input as well.
func (q *queue) open(dst []byte, id uint32, input bool) ([]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return dst, nil
	}
	w := flow.NewWindow(windowBytes)
	q.windows[id] = w
	return q.flow.AppendOpen(dst, id, w, input)
}

// skip counts a frame that goes no further as taken.
func (q *queue) skip(f *frame) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w := q.windows[f.id()]; w != nil {
		q.flow.Taken(f.id(), w, len(f.buf))
	}
}

// end forgets the window of a session that has ended.
func (q *queue) end(id uint32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shut(id)
}

// shut is called with mu held.
func (q *queue) shut(id uint32) {
	if q.windows[id] != nil {
		delete(q.windows, id)
		q.flow.Forget(id)
	}
}

// maxBatch bounds one vectored write.
const maxBatch = 64

// take moves up to maxBatch frames to batch. more is false when the queue is closed and
// was empty.
func (q *queue) take(batch []*frame) (_ []*frame, more bool) {
	for {
		q.mu.Lock()
		if n := min(len(q.frames), maxBatch); n > 0 {
			batch = append(batch, q.frames[:n]...)
			rest := copy(q.frames, q.frames[n:])
			clear(q.frames[rest:])
			q.frames = q.frames[:rest]
			for _, f := range batch {
				q.bytes -= len(f.buf)
				if w := q.windows[f.id()]; w != nil {
					q.flow.Taken(f.id(), w, len(f.buf))
				}
			}
			q.mu.Unlock()
			poke(q.space)
			return batch, true
		}
		if len(q.frames) == 0 && cap(q.frames) > 1024 {
			q.frames = nil
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return batch, false
		}
		<-q.ready
	}
}

// close ends the queue: what is in it is still taken, unless drop.
func (q *queue) close(drop bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for id := range q.windows {
		q.shut(id)
	}
	if drop {
		for _, f := range q.frames {
			q.pool.release(f)
		}
		q.frames, q.bytes = nil, 0
	}
	poke(q.ready)
	poke(q.space)
}

// drain writes everything to conn until the queue is closed and empty, or conn fails.
func (q *queue) drain(conn net.Conn) error {
	var batch []*frame
	var vec [maxBatch][]byte
	for {
		var more bool
		if batch, more = q.take(batch[:0]); !more {
			return nil
		}
		bufs := net.Buffers(vec[:0])
		for _, f := range batch {
			bufs = append(bufs, f.buf)
		}
		_, err := bufs.WriteTo(conn)
		for _, f := range batch {
			q.pool.release(f)
		}
		if err != nil {
			return err
		}
	}
}
