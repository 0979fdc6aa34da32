package relay

import (
	"net"
	"sync"
)

// queueBytes is how much a client may leave unread before the guest has to wait. One
// frame always fits an empty queue.
const queueBytes = 8 << 20

// queue holds frames on their way to one client. One goroutine pushes, one takes.
type queue struct {
	pool *framePool

	mu     sync.Mutex
	frames []*frame // protected by mu
	bytes  int      // protected by mu
	closed bool     // no more pushes; protected by mu

	ready chan struct{} // there may be something to take
	space chan struct{} // there may be room
}

func newQueue(pool *framePool) *queue {
	return &queue{pool: pool, ready: make(chan struct{}, 1), space: make(chan struct{}, 1)}
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
