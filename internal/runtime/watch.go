package runtime

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/store"
)

// watchParent follows the parent's end of the watchdog pipe until the parent lets go, one
// way or the other.
func (c *control) watchParent() {
	fd := c.inv.ParentWatchFD
	// Only a pipe that does not block can be closed under a reader.
	if err := unix.SetNonblock(fd, true); err != nil {
		c.log.Error("cannot watch the parent", "err", err)
		c.wg.Go(func() { c.post(event{kind: force, reason: store.Signal}) })
		return
	}
	pipe := os.NewFile(uintptr(fd), "watchdog")
	stop := context.AfterFunc(c.ctx, func() { _ = pipe.Close() })
	c.wg.Go(func() {
		defer func() { _ = pipe.Close() }()
		defer stop()
		kind, ends := watchPipe(pipe)
		if c.ctx.Err() != nil || !ends {
			return
		}
		c.log.Info("the parent is gone")
		c.post(event{kind: kind, reason: store.Signal})
	})
}

// watchPipe reads until it is clear what becomes of the sandbox: ends is false if the
// parent detached from it.
func watchPipe(pipe io.Reader) (kind eventKind, ends bool) {
	b := make([]byte, 16)
	for {
		n, err := pipe.Read(b)
		for _, x := range b[:n] {
			if launch.WatchDetach(x) {
				return 0, false
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return stop, true
		default:
			return force, true
		}
	}
}

// beat takes the guest's heartbeats.
func (c *control) beat() {
	select {
	case conn := <-c.board.heartbeat:
		stop := context.AfterFunc(c.ctx, func() { _ = conn.Close() })
		defer stop()
		defer func() { _ = conn.Close() }()
		if err := c.pulse.follow(conn); err != nil && c.ctx.Err() == nil {
			c.log.Warn("the guest's heartbeat has ended", "err", err)
		}
	case <-c.ctx.Done():
	}
}

// watchIdle stops a sandbox that does nothing for too long.
func (c *control) watchIdle() {
	limit := c.cfg.Lifecycle.IdleTimeoutSecs
	if limit == nil || *limit == 0 {
		return
	}
	tick := time.NewTicker(min(time.Second, seconds(*limit)/4))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if c.pulse.idle() >= seconds(*limit) {
				c.post(event{kind: stop, reason: store.IdleTimeout})
				return
			}
		case <-c.ctx.Done():
			return
		}
	}
}
