package relay

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// trimPatience is how long the guest may take to give memory back.
const trimPatience = 5 * time.Second

// errTrim says that the guest did not trim its memory in time.
var errTrim = errors.New("the guest agent did not give memory back in time")

// Trim has the guest agent give memory back that it does not need, and waits for that, at
// most a few seconds. An agent that cannot is no error. Run must be under way and the guest
// not paused.
func (r *Relay) Trim(ctx context.Context) error {
	r.trimMu.Lock()
	defer r.trimMu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, trimPatience, errTrim)
	defer cancel()
	select {
	case <-r.trimmed: // of one who did not wait for it
	default:
	}
	sent := make(chan error, 1)
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return io.ErrClosedPipe
	}
	// By itself, since a guest that takes nothing holds it up.
	r.wg.Go(func() { sent <- r.Send(0, proto.TypeTrim, proto.Empty{}) })
	r.mu.Unlock()
	for {
		select {
		case err := <-sent:
			if err != nil {
				return err
			}
			sent = nil
		case <-r.trimmed:
			return nil
		case <-r.done:
			return io.ErrClosedPipe
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// trimRefused reports that m is the answer of an agent that does not know how to trim.
func trimRefused(m proto.Message) bool {
	var p proto.CoreError
	return m.Type == proto.TypeError && m.Decode(&p) == nil && p.OffendingType != nil && *p.OffendingType == proto.TypeTrim
}
