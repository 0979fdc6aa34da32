package netstack

import (
	"context"
	"errors"
	"time"

	"github.com/gomsb/gomsb/netstack/secrets"
)

// recordSize is what one record of TLS carries at most (RFC 8446 §5.1).
const recordSize = 16 << 10

// relay carries plaintext between the guest and its server until both directions have
// ended; what the guest sends goes through rw, unless that is nil. Both connections are over when it
// returns.
func (g *Gateway) relay(ctx context.Context, guest, host sealed, c secrets.Connection, rw secrets.Rewriter) {
	s, w := guest.wire.(*stream), host.wire.(*hostWire)
	stop := context.AfterFunc(s.ctx, func() { _ = w.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	down := make(chan error, 1)
	s.guest.workers.run(func() { down <- s.failed(relayDown(guest, host)) })
	up := s.failed(relayUp(guest, host, rw))
	err := errors.Join(up, <-down)
	switch {
	case err == nil:
		_ = w.Close()
		s.guest.close(ctx)
	case g.refused(c, up):
		reset(w.Conn)
		s.guest.close(ctx)
	default:
		reset(w.Conn)
		s.guest.abort()
	}
}

// failed ends both directions after a failure of one.
func (s *stream) failed(err error) error {
	if err != nil {
		s.cancel()
	}
	return err
}

// relayUp carries what the guest sends, through rw unless that is nil.
func relayUp(guest, host sealed, rw secrets.Rewriter) error {
	if rw == nil {
		if err := guest.copyTo(host); err != nil {
			return err
		}
		return host.finish(!guest.wire.ended())
	}
	sub := &substituted{w: host, rw: rw}
	defer sub.close()
	if err := guest.copyTo(sub); err != nil {
		return err
	}
	if err := sub.end(); err != nil {
		return err
	}
	return host.finish(!guest.wire.ended())
}

// relayDown carries what the server sends.
func relayDown(guest, host sealed) error {
	if err := host.copyTo(guest); err != nil {
		return err
	}
	return guest.finish(!host.wire.ended())
}
