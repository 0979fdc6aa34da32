package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gomsb/gomsb/guestagent/flow"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// GuestError is a core.error that the guest sent before it was ready.
type GuestError struct {
	Kind    proto.ErrorKind
	Message string
}

// Error is the guest's message with its kind.
func (e *GuestError) Error() string { return fmt.Sprintf("guest agent: %s: %s", e.Kind, e.Message) }

func guestError(m proto.Message) *GuestError {
	var p proto.CoreError
	if err := m.Decode(&p); err != nil {
		return &GuestError{Kind: proto.KindMalformedMessage, Message: err.Error()}
	}
	return &GuestError{Kind: p.Kind, Message: p.Message}
}

// ErrProtocol reports a guest that does not speak the protocol before it is ready.
var ErrProtocol = errors.New("guest agent broke the protocol")

// maxBootFrames bounds what a guest may send before it is ready.
const maxBootFrames = 10000

// Boot sends the configuration and reads until the guest is ready. It returns a
// *[GuestError] if the guest reports one, an error wrapping [ErrProtocol], io.EOF if the
// guest hangs up, or the cause of ctx.
func (r *Relay) Boot(ctx context.Context, b *proto.Bootstrap) (proto.Ready, error) {
	return r.within(ctx, func() (proto.Ready, error) {
		if err := r.Send(0, proto.TypeBootstrap, b); err != nil {
			return proto.Ready{}, fmt.Errorf("send the bootstrap: %w", err)
		}
		return r.awaitReady(r.resolved)
	})
}

// within calls f, whose reads and writes fail once ctx ends.
func (r *Relay) within(ctx context.Context, f func() (proto.Ready, error)) (proto.Ready, error) {
	stop := context.AfterFunc(ctx, func() { _ = r.cfg.Guest.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	ready, err := f()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return ready, err
}

// awaitReady reads until the guest is ready. resolved is called with each init.resolved; an
// error that wraps ErrProtocol ends it at once, another is kept in case that the guest has
// hung up before our answer: it may have said why.
func (r *Relay) awaitReady(resolved func(proto.Message) error) (proto.Ready, error) {
	var unheard error
	for range maxBootFrames {
		f, err := r.guest.next()
		switch {
		case errors.Is(err, proto.ErrFrame):
			return proto.Ready{}, fmt.Errorf("%w: %w", ErrProtocol, err)
		case err != nil && unheard != nil:
			return proto.Ready{}, fmt.Errorf("acknowledge init: %w", unheard)
		case err != nil:
			return proto.Ready{}, fmt.Errorf("wait for the guest: %w", err)
		}
		m, err := proto.ParseMessage(proto.Frame{ID: f.id(), Flags: f.flags(), Body: f.body()})
		if err != nil {
			return proto.Ready{}, fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		switch m.Type {
		case proto.TypeInitResolved:
			if unheard = resolved(m); errors.Is(unheard, ErrProtocol) {
				return proto.Ready{}, unheard
			}
		case proto.TypeError:
			return proto.Ready{}, guestError(m)
		case proto.TypeReady:
			return r.isReady(f, m)
		}
		r.pool.release(f)
	}
	return proto.Ready{}, fmt.Errorf("%w: %d frames and still not ready", ErrProtocol, maxBootFrames)
}

// resolved lets a guest go on that has found out who its default user is.
func (r *Relay) resolved(m proto.Message) error {
	var who proto.InitResolved
	if err := m.Decode(&who); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if r.cfg.OnResolved != nil {
		r.cfg.OnResolved(who.DefaultUser)
	}
	return r.Send(0, proto.TypeInitAck, proto.Empty{})
}

// isReady takes note of the ready message m in f.
func (r *Relay) isReady(f *frame, m proto.Message) (ready proto.Ready, err error) {
	if err := m.Decode(&ready); err != nil {
		return proto.Ready{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	r.ready = append([]byte(nil), f.buf...)
	if ready.Flow {
		r.flow, r.input = flow.New(proto.HopRelay), ready.Input
	}
	return ready, nil
}
