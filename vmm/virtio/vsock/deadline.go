package vsock

import "time"

// deadline is a point in time after which one direction of a connection fails. Its
// methods are called with the connection's lock held.
type deadline struct {
	at      time.Time // zero: none
	expired bool
	timer   *time.Timer
}

// set replaces the deadline of c; waker is woken when it has passed.
func (d *deadline) set(t time.Time, c *Conn, waker chan struct{}) {
	d.stop()
	d.at, d.expired = t, false
	if t.IsZero() {
		return
	}
	switch left := time.Until(t); {
	case left <= 0:
		d.expired = true
		wake(waker)
	case d.timer == nil:
		d.timer = time.AfterFunc(left, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if d.check(); d.expired {
				wake(waker)
			}
		})
	default:
		d.timer.Reset(left)
	}
}

// check sees whether the deadline has passed. The timer may belong to an older deadline,
// or the wall clock to which this one refers may have been set back.
func (d *deadline) check() {
	if d.at.IsZero() || d.expired {
		return
	}
	if left := time.Until(d.at); left > 0 {
		d.timer.Reset(left)
		return
	}
	d.expired = true
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}
