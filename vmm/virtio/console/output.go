package console

import (
	"io"
	"sync"
	"time"
)

const (
	// maxBacklog bounds the bytes that wait for a writer; as many more may be with it.
	maxBacklog = 64 << 10
	// patience is how long the guest's console waits for a writer that does not move.
	patience = 250 * time.Millisecond
	// grace is how long Close waits for a writer or a reader.
	grace = time.Second
)

// output carries what the guest writes to a writer that may be slow. A goroutine exists
// only while there is something to write.
type output struct {
	w     io.Writer
	lossy bool   // drop rather than wait for longer than patience
	run   func() // drain; a field, so that starting it does not allocate

	mu            sync.Mutex
	buf           []byte // to be written; protected by mu, as all below
	spare         []byte // what buf will be next
	running       bool   // drain is under way
	hurry         bool   // patience is over: drop what does not fit
	failed        bool   // the writer of a port that is not lossy reported an error
	timer         *time.Timer
	idle          *sync.Cond // running became false
	progress      func()     // called after write took less than all, when it will take more, and after a failure; must not block
	starved       bool       // write took less than all
	taken         uint64     // bytes
	dropped, lost uint64     // bytes
}

func newOutput(w io.Writer, lossy bool) *output {
	o := &output{w: w, lossy: lossy}
	if w == nil {
		o.w = io.Discard
	}
	o.idle = sync.NewCond(&o.mu)
	o.run = o.drain
	return o
}

// write takes the bytes of parts after the first skip, and returns how many it took: all
// of them, or fewer, and progress will be called then.
func (o *output) write(parts [][]byte, skip uint64) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := o.fill(parts, skip, maxBacklog)
	rest := total(parts) - skip - n
	if rest > 0 && (o.hurry || o.failed) {
		o.dropped += rest
		n += rest
		rest = 0
	}
	if rest > 0 {
		o.starved = true
		if o.lossy {
			o.startTimer()
		}
	}
	return n
}

// finish takes all the bytes of parts after the first skip at once; it drops those for
// which there is no room even beyond the bound.
func (o *output) finish(parts [][]byte, skip uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := o.fill(parts, skip, 2*maxBacklog)
	o.dropped += total(parts) - skip - n
}

// fill copies into the backlog until that holds limit bytes; mu is held.
func (o *output) fill(parts [][]byte, skip uint64, limit int) (n uint64) {
	if o.failed {
		return 0
	}
	for _, p := range parts {
		if skip >= uint64(len(p)) {
			skip -= uint64(len(p))
			continue
		}
		p = p[skip:]
		skip = 0
		free := limit - len(o.buf)
		if free <= 0 {
			break
		}
		p = p[:min(len(p), free)]
		o.buf = append(o.buf, p...)
		n += uint64(len(p))
	}
	if n > 0 && !o.running {
		o.running = true
		go o.run()
	}
	return n
}

func total(parts [][]byte) (n uint64) {
	for _, p := range parts {
		n += uint64(len(p))
	}
	return n
}

// drain writes until there is nothing left.
func (o *output) drain() {
	o.mu.Lock()
	for len(o.buf) > 0 {
		b := o.buf
		o.buf, o.spare = o.spare[:0], nil
		o.hurry = false // it moves
		if o.timer != nil {
			o.timer.Stop()
		}
		o.tellStarved()
		o.mu.Unlock()
		n, err := o.w.Write(b)
		o.mu.Lock()
		o.taken += uint64(max(0, min(n, len(b))))
		if err != nil || n < len(b) {
			o.lost += uint64(len(b) - max(0, min(n, len(b))))
			o.failed = o.failed || !o.lossy
		}
		if o.failed {
			o.lost += uint64(len(o.buf))
			o.buf = o.buf[:0]
			o.starved = true // to be told of the failure
		}
		if cap(b) <= 2*maxBacklog {
			o.spare = b[:0]
		}
	}
	o.tellStarved()
	o.running = false
	o.idle.Broadcast()
	o.mu.Unlock()
}

// tellStarved says that write will take more; mu is held.
func (o *output) tellStarved() {
	if o.starved && o.progress != nil {
		o.progress()
	}
	o.starved = false
}

// startTimer ends patience later; mu is held.
func (o *output) startTimer() {
	if o.timer != nil {
		o.timer.Reset(patience)
		return
	}
	o.timer = time.AfterFunc(patience, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.hurry = o.starved
		o.tellStarved()
	})
}

// hasFailed reports that the writer of a port that is not lossy reported an error.
func (o *output) hasFailed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed
}

// counts are the bytes that the writer took, those that it refused, and those that it
// was never offered.
func (o *output) counts() (taken, lost, dropped uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.taken, o.lost, o.dropped
}

// notify replaces progress, which must not block; nil for nobody.
func (o *output) notify(progress func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.progress, o.starved = progress, false
	if o.timer != nil {
		o.timer.Stop()
	}
}

// wait returns when all is written or grace is over; in that case the goroutine ends
// when the writer returns.
func (o *output) wait() {
	var over bool
	timer := time.AfterFunc(grace, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		over = true
		o.idle.Broadcast()
	})
	defer timer.Stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.running && !over {
		o.idle.Wait()
	}
}
