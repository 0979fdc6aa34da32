package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/gomsb/gomsb/guestagent/flow"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// event is one frame of a session as its reader gets it: for data messages body is the
// data, for others the CBOR payload, for raw sessions the frame's body.
type event struct {
	typ   proto.Type
	flags proto.Flags
	body  []byte
	size  int // of the frame
}

// eventCost is what an event takes besides its body, so that floods of empty frames are
// bounded too.
const eventCost = 96

func (e event) cost() int { return eventCost + len(e.body) }

// session is one id: a bounded queue between the read loop and whoever reads the session.
type session struct {
	c   *Client
	id  uint32
	typ proto.Type // of the request
	raw bool

	window *flow.Window // nil if what comes is not limited; used with mu held
	credit *credit      // nil if what goes is not limited

	mu      sync.Mutex
	queue   []event
	head    int
	cost    int
	over    bool // no event will be queued any more
	reason  error
	discard bool  // nobody reads; drop what comes
	broken  error // failure of the outgoing direction, such as a StdinError

	more chan struct{} // signals one reader that the queue has grown
	done chan struct{} // closed when over
}

// open registers a new session and sends its request.
func (c *Client) open(ctx context.Context, t proto.Type, payload any) (*session, error) {
	if need := t.Generation(); need > c.generation {
		return nil, &GenerationError{Type: t, Needs: need, Speaks: c.generation}
	}
	s, err := c.register(t, false)
	if err != nil {
		return nil, err
	}
	if err := c.request(ctx, s, payload); err != nil {
		s.abandon()
		if errors.Is(err, errPartial) {
			_ = c.goodbye(s.tellEnd) // best effort; the caller's error is the one to report
		} else {
			c.forget(s.id) // the guest will never hear of this id
		}
		return nil, err
	}
	return s, nil
}

// request sends a session's request, behind the windows of one that may have much to say
// or to be told.
func (c *Client) request(ctx context.Context, s *session, payload any) error {
	if c.flow == nil || !streams(s.typ, payload) {
		return c.send(ctx, s.id, s.typ, payload)
	}
	s.mu.Lock()
	s.window = flow.NewWindow(c.opts.SessionBuffer)
	open, err := c.flow.AppendOpen(nil, s.id, s.window, s.credit != nil)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return c.writeFrame(ctx, func(dst []byte) ([]byte, error) {
		return proto.AppendMessage(append(dst, open...), s.id, s.typ, payload)
	})
}

// streams reports the requests that open a stream. Files being read are none: each has one
// reader who waits for it.
func streams(t proto.Type, payload any) bool {
	if f, ok := payload.(proto.FSRequest); ok {
		_, writes := f.Op.(proto.FSWrite)
		return writes
	}
	return t == proto.TypeExecRequest || t == proto.TypeTCPConnect
}

// register makes a session under a free id.
func (c *Client) register(t proto.Type, raw bool) (*session, error) {
	s := &session{c: c, typ: t, raw: raw, more: make(chan struct{}, 1), done: make(chan struct{})}
	if limit := c.shake.Ready.Input; limit > 0 && c.flow != nil && !raw {
		s.credit = newCredit(limit)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	ids := c.shake.IDs
	if uint64(len(c.pending)) >= uint64(ids.End-ids.First()) {
		return nil, ErrNoIDs
	}
	for c.pending[c.nextID] != nil {
		c.bump()
	}
	s.id = c.nextID
	c.bump()
	c.pending[s.id] = s
	c.live[s] = struct{}{}
	return s, nil
}

// bump moves nextID on; the caller holds mu.
func (c *Client) bump() {
	if c.nextID++; c.nextID >= c.shake.IDs.End {
		c.nextID = c.shake.IDs.First()
	}
}

func (c *Client) forget(id uint32) {
	c.mu.Lock()
	delete(c.pending, id)
	c.mu.Unlock()
}

// recv returns the next event. After the last one it returns io.EOF for a session that
// ended by a terminal frame, else why it ended.
func (s *session) recv(ctx context.Context) (event, error) {
	for {
		if ev, ok, err := s.pop(); ok || err != nil {
			return ev, err
		}
		select {
		case <-s.more:
		case <-s.done:
		case <-ctx.Done():
			return event{}, ctx.Err()
		}
	}
}

func (s *session) pop() (ev event, ok bool, err error) {
	defer s.retire()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.head == len(s.queue) {
		if s.over {
			return event{}, false, s.reason
		}
		return event{}, false, nil
	}
	ev = s.queue[s.head]
	s.queue[s.head] = event{}
	if s.head++; s.head == len(s.queue) {
		s.queue, s.head = s.queue[:0], 0
	} else {
		signal(s.more) // another reader may be waiting
	}
	s.charge(-ev.cost())
	s.tellTaken(ev.size)
	signal(s.c.space)
	return ev, true, nil
}

// tellTaken notes that n bytes of what came need no room any more; the caller holds mu.
func (s *session) tellTaken(n int) {
	if s.window != nil && !s.over {
		s.c.flow.Taken(s.id, s.window, n)
	}
}

// took is tellTaken for who does not hold mu.
func (s *session) took(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tellTaken(n)
}

// charge accounts for queued bytes; the caller holds mu.
func (s *session) charge(n int) {
	s.cost += n
	s.c.buffered.Add(int64(n))
}

// offer queues ev if there is room, and reports whether it is dealt with. A terminal
// event always fits: it is the last.
func (s *session) offer(ev event, terminal bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.discard || s.over {
		return true
	}
	if !terminal {
		if s.cost > 0 && s.cost+ev.cost() > s.limit() {
			return false
		}
		if s.c.buffered.Load()+int64(ev.cost()) > int64(s.c.opts.TotalBuffer) && s.c.buffered.Load() > 0 {
			return false
		}
	}
	s.compact()
	s.queue = append(s.queue, ev)
	s.charge(ev.cost())
	if terminal {
		s.finish(io.EOF)
	}
	signal(s.more)
	return true
}

// overshoot is how far a guest may exceed a window, in bytes of messages: by one of each
// of its outputs.
const overshoot = 2 * 128 << 10

// limit is how much of the session may be unread before the client stops reading. A guest
// that keeps to the window does not get there: small messages cost here three times what
// the window counts, at most. The caller holds mu.
func (s *session) limit() int {
	if s.window == nil {
		return s.c.opts.SessionBuffer
	}
	return 3*s.c.opts.SessionBuffer + overshoot
}

// retire takes a session that was read to its end off the books.
func (s *session) retire() {
	s.mu.Lock()
	finished := s.over && s.head == len(s.queue)
	s.mu.Unlock()
	if finished {
		s.c.mu.Lock()
		delete(s.c.live, s)
		s.c.mu.Unlock()
	}
}

// compact drops the read part of the queue before it would grow; the caller holds mu.
func (s *session) compact() {
	if s.head > 0 && len(s.queue) == cap(s.queue) {
		n := copy(s.queue, s.queue[s.head:])
		clear(s.queue[n:])
		s.queue, s.head = s.queue[:n], 0
	}
}

// end closes the session: reading it returns what is queued, then reason.
func (s *session) end(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish(reason)
}

func (s *session) finish(reason error) {
	if !s.over {
		s.over = true
		if s.reason == nil {
			s.reason = reason
		}
		switch {
		case s.window == nil:
		case reason == io.EOF:
			s.c.flow.Forget(s.id)
		default:
			s.c.flow.Unlimit(s.id) // what else comes is dropped
		}
		close(s.done)
	}
}

// drop ends the session and forgets its unread events.
func (s *session) drop(reason error) {
	defer s.retire()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.discard = true
	if s.cost > 0 {
		s.reason = reason // output is lost: an orderly end must not hide that
	}
	s.charge(-s.cost)
	s.queue, s.head = nil, 0
	s.finish(reason)
	signal(s.c.space)
}

// abandon gives the session up: nobody will read it. Its id stays reserved until the
// guest ends it, so that late frames cannot reach another session.
func (s *session) abandon() { s.drop(ErrClosed) }

// linuxSIGKILL is the guest's number, whatever the host is.
const linuxSIGKILL = 9

// tellEnd asks the guest to end what the session runs, if it can outlive its request.
func (s *session) tellEnd(ctx context.Context) error {
	switch s.typ {
	case proto.TypeExecRequest:
		return s.c.send(ctx, s.id, proto.TypeExecSignal, proto.ExecSignal{Signal: linuxSIGKILL})
	case proto.TypeTCPConnect:
		return s.c.send(ctx, s.id, proto.TypeTCPClose, proto.Empty{})
	}
	return nil
}

// isOver reports whether no event will be queued any more.
func (s *session) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

// breakWrites makes later writes of the session fail; the first reason wins.
func (s *session) breakWrites(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = err
	}
	s.credit.wake()
}

// writable returns why the session cannot be written to, or nil.
func (s *session) writable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.broken != nil:
		return s.broken
	case s.over && s.reason == io.EOF:
		return fmt.Errorf("session ended: %w", io.ErrClosedPipe)
	case s.over:
		return s.reason
	}
	return nil
}

// once reads the single, terminal answer of a one-shot request into payload.
func (s *session) once(ctx context.Context, want proto.Type, payload any) error {
	ev, err := s.recv(ctx)
	if err != nil {
		s.abandon()
		return endError(err)
	}
	return ev.decode(want, payload)
}

// endError turns the end of a session before its answer into an error for the caller.
func endError(err error) error {
	if err == io.EOF {
		return fmt.Errorf("%w: session ended without a result", ErrProtocol)
	}
	return err
}

// decode decodes an event that must have type want; a core.error becomes the error.
func (e event) decode(want proto.Type, payload any) error {
	if e.typ == proto.TypeError {
		return remoteError(e.body)
	}
	if e.typ != want {
		return fmt.Errorf("%w: got %s, want %s", ErrProtocol, e.typ, want)
	}
	if err := proto.Unmarshal(e.body, payload); err != nil {
		return protocolError(e.typ, err)
	}
	return nil
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
