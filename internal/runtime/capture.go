package runtime

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/internal/checkpoint"
	"github.com/gomsb/gomsb/internal/runtime/relay"
	"github.com/gomsb/gomsb/snapshot/format"
)

// capturer saves the sandbox while it runs, or is paused, once at a time.
type capturer struct {
	name    string // of the sandbox
	machine Machine
	pauser  *pauser
	log     *slog.Logger
	trim    func(context.Context) error // has the guest give up memory that it does not need

	turn   chan struct{} // has an element while somebody is at it
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func newCapturer(c *control) *capturer {
	s := &capturer{name: c.inv.Name, machine: c.machine, pauser: c.pauser, log: c.log, trim: c.relay.Trim, turn: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancelCause(c.ctx)
	return s
}

// end ends what is under way, and all that comes: the sandbox ends.
func (s *capturer) end() {
	if s != nil {
		s.cancel(errEnds)
	}
}

// Why a capture ends that nobody wants.
var (
	errHungUp    = errors.New("the client has hung up")
	errWithdrawn = errors.New("the client has withdrawn it")
)

// capture makes a checkpoint at dir. It returns when that is complete, and durable if it is to
// last, or nothing is left of it.
func (s *capturer) capture(ctx context.Context, dir string, lifetime format.Lifetime) (err error) {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("checkpoint %q: want an absolute path", dir)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })()
	defer func() {
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			err = fmt.Errorf("%w: the sandbox runs on; make room there, or choose another place", err)
		}
	}()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	began := time.Now()
	d, err := checkpoint.Create(dir, lifetime)
	if err != nil {
		return err
	}
	written, stood, err := s.save(ctx, d)
	if err != nil {
		s.log.Warn("the sandbox was not saved", "dir", dir, "stood_still", stood, "err", err)
		return err
	}
	s.log.Info("the sandbox was saved", "dir", dir, "stood_still", stood, "took", time.Since(began), "bytes", written)
	return nil
}

// save fills the draft and publishes it, or discards it. It returns how much it takes on
// disk, and how long the guest stood still.
func (s *capturer) save(ctx context.Context, d *checkpoint.Draft) (written int64, stood time.Duration, err error) {
	discard := d.Discard
	defer func() {
		if err != nil && discard != nil {
			err = errors.Join(err, discard())
		}
	}()
	var machine *format.Draft
	var prepared sync.WaitGroup
	prepared.Go(func() { s.prepare(ctx, d.Lifetime()) })
	machine, err = s.machine.Prepare(ctx, d)
	prepared.Wait()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return 0, 0, err
	}
	if stood, err = s.still(ctx, d, machine); err != nil {
		return 0, stood, errors.Join(err, machine.Discard(), s.machine.GiveUp())
	}
	if err := machine.Publish(ctx); err != nil {
		return 0, stood, err
	}
	if written, err = d.Written(); err != nil {
		return 0, stood, err
	}
	m := s.machine.Manifest()
	m.Source = s.name
	discard = nil // from here on that is Publish's
	return written, stood, d.Publish(ctx, m)
}

// trimTime is how long the guest agent has to give memory up: it is worth no more.
const trimTime = time.Second

// prepare does what makes the capture cheaper while the guest still runs. Nothing depends on
// it.
func (s *capturer) prepare(ctx context.Context, lifetime format.Lifetime) {
	if s.pauser.isPaused() {
		return
	}
	trimming, cancel := context.WithTimeout(ctx, trimTime)
	defer cancel()
	if err := s.trim(trimming); err != nil {
		s.log.Debug("the guest agent did not give up memory", "err", err)
	}
	if lifetime != format.Lasting {
		return
	}
	if err := s.machine.Flush(); err != nil {
		s.log.Warn("cannot flush the disks before they are saved", "err", err)
	}
}

const (
	// busyTries is how often a guest is stopped that is in the middle of something, and
	// busyWait how long it has before the next time.
	busyTries = 20
	busyWait  = 100 * time.Millisecond
)

// still captures the machine while it stands still.
func (s *capturer) still(ctx context.Context, d *checkpoint.Draft, machine *format.Draft) (stood time.Duration, err error) {
	for range busyTries {
		stood, err = s.pauser.still(func() error { return s.machine.Capture(ctx, d, machine) })
		if !errors.Is(err, ErrBusy) {
			break
		}
		if s.pauser.isPaused() {
			return stood, fmt.Errorf("%w: resume it, and try again", err)
		}
		select {
		case <-time.After(busyWait):
		case <-ctx.Done():
			return stood, context.Cause(ctx)
		}
	}
	switch {
	case errors.Is(err, ErrBusy):
		err = fmt.Errorf("%w: end what it does there, and try again", err)
	case err != nil && ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return stood, err
}

// checkpoint saves the sandbox for a client, for as long as that takes and the client waits.
func (l *changes) checkpoint(c net.Conn, in *bufio.Reader, r changeRequest) error {
	g := l.guest.Load()
	if g == nil {
		return errNotReadyYet
	}
	_ = c.SetDeadline(time.Time{})
	ctx, cancel := context.WithCancelCause(l.ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if cause := unwanted(ctx, c, in); cause != nil {
			cancel(cause)
		}
	}()
	lifetime := format.Lasting
	if r.Passing {
		lifetime = format.Passing
	}
	err := g.captures.capture(ctx, r.Dir, lifetime)
	cancel(nil)
	_ = c.SetReadDeadline(time.Unix(1, 0)) // wakes it up
	<-watched
	return err
}

// hangUpPoll is how often is looked whether a client is there that says no more.
const hangUpPoll = 200 * time.Millisecond

// unwanted returns why a client does not want what it asked for: it has withdrawn it by a
// second line, or has hung up. It returns nil when ctx is done first.
func unwanted(ctx context.Context, c net.Conn, in *bufio.Reader) error {
	for {
		line, err := in.ReadBytes('\n')
		var r changeRequest
		if json.Unmarshal(line, &r) == nil && r.Op == "cancel" {
			return errWithdrawn
		}
		if err != nil { // whatever else it says
			break
		}
	}
	for ctx.Err() == nil {
		if relay.HungUp(c) {
			return errHungUp
		}
		select {
		case <-time.After(hangUpPoll):
		case <-ctx.Done():
		}
	}
	return nil
}
