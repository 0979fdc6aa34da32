package client

import (
	"context"
	"sync"
	"time"
)

// deadline turns the movable deadline of a net.Conn into contexts. Moving it also acts on
// calls that are already waiting, as net.Conn demands.
type deadline struct {
	mu     sync.Mutex
	ctx    context.Context // cancelled when the deadline passes
	cancel context.CancelFunc
	timer  *time.Timer
	moves  uint64
}

func (d *deadline) init() { d.ctx, d.cancel = context.WithCancel(context.Background()) }

// context returns the context of calls that begin now.
func (d *deadline) context() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ctx
}

// set moves the deadline; the zero time removes it.
func (d *deadline) set(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.moves++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.ctx.Err() != nil {
		d.init()
	}
	if at.IsZero() {
		return
	}
	wait := time.Until(at)
	if wait <= 0 {
		d.cancel()
		return
	}
	move := d.moves
	d.timer = time.AfterFunc(wait, func() { d.expire(move) })
}

// expire acts on the deadline set by the given move unless it was moved since.
func (d *deadline) expire(move uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.moves == move {
		d.cancel()
	}
}
