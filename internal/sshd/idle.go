package sshd

import (
	"net"
	"sync/atomic"
	"time"
)

// watched is a connection that closes itself when nothing was read or written for a while.
type watched struct {
	net.Conn
	limit time.Duration // 0: never
	timer *time.Timer   // nil without a limit
	over  atomic.Bool
}

func watch(c net.Conn, limit time.Duration) *watched {
	w := &watched{Conn: c, limit: limit}
	if limit > 0 {
		w.timer = time.AfterFunc(limit, func() {
			w.over.Store(true)
			_ = c.Close()
		})
	}
	return w
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.note(n)
	return n, err
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.note(n)
	return n, err
}

func (w *watched) note(n int) {
	if n > 0 && w.timer != nil && !w.over.Load() {
		w.timer.Reset(w.limit)
	}
}

// expired reports that the limit ended the connection.
func (w *watched) expired() bool { return w.over.Load() }

func (w *watched) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}
