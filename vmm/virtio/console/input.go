package console

import (
	"io"
	"sync"
	"time"
)

// chunkSize is the most that is read from an Input at once; Linux offers buffers of
// that size.
const chunkSize = 4 << 10

// input reads ahead one chunk from a reader.
type input struct {
	r io.Reader

	mu      sync.Mutex
	cond    *sync.Cond // chunk became empty, closed or done
	chunk   []byte     // read, not yet taken; protected by mu, as all below
	arrived func()     // called when there is a chunk; must not block
	started bool
	closed  bool
	done    bool // the goroutine has ended
}

func newInput(r io.Reader) *input {
	in := &input{r: r}
	in.cond = sync.NewCond(&in.mu)
	return in
}

// start reads from now on and calls arrived, which may replace an earlier one, when
// there is something to take.
func (in *input) start(arrived func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.arrived = arrived
	if !in.started && !in.closed {
		in.started = true
		go in.readAll()
	}
}

// forget makes sure that arrived is not called any more.
func (in *input) forget() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.arrived = nil
}

func (in *input) readAll() {
	buf := make([]byte, chunkSize)
	for {
		n, err := in.r.Read(buf)
		in.mu.Lock()
		if in.chunk = buf[:max(0, min(n, len(buf)))]; len(in.chunk) > 0 && in.arrived != nil {
			in.arrived()
		}
		for len(in.chunk) > 0 && !in.closed {
			in.cond.Wait()
		}
		if err != nil || in.closed {
			in.done = true
			in.cond.Broadcast()
			in.mu.Unlock()
			return
		}
		in.mu.Unlock()
	}
}

// peek is what was read; it stays valid until take.
func (in *input) peek() []byte {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.chunk
}

// take removes the first n bytes of what peek returned.
func (in *input) take(n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.chunk = in.chunk[n:]; len(in.chunk) == 0 {
		in.cond.Broadcast()
	}
}

// close ends the reading; it closes a reader that can be closed, and waits for the
// goroutine, but not for longer than grace.
func (in *input) close() {
	in.mu.Lock()
	first := !in.closed
	in.closed, in.arrived = true, nil
	in.cond.Broadcast()
	in.mu.Unlock()
	if c, ok := in.r.(io.Closer); ok && first {
		_ = c.Close() // only to end Read
	}
	var over bool
	timer := time.AfterFunc(grace, func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		over = true
		in.cond.Broadcast()
	})
	defer timer.Stop()
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.started && !in.done && !over {
		in.cond.Wait()
	}
}
