package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// readLoop delivers frames until the connection ends.
func (c *Client) readLoop(in *bufio.Reader, r *proto.Reader) {
	for {
		f, err := c.readFrame(in, r)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("%w: %w", ErrDisconnected, io.EOF)
			} else {
				err = fmt.Errorf("%w: %w", ErrDisconnected, err)
			}
			_ = c.end(err)
			return
		}
		c.dispatch(f)
	}
}

// readFrame waits for a frame as long as it takes to begin, then FrameTimeout for the
// rest: a guest that dribbles bytes cannot hold the connection half-way.
func (c *Client) readFrame(in *bufio.Reader, r *proto.Reader) (proto.Frame, error) {
	if _, err := in.Peek(1); err != nil {
		return proto.Frame{}, err
	}
	if frameBuffered(in) {
		return r.ReadFrame()
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(c.opts.FrameTimeout)); err != nil {
		return proto.Frame{}, err
	}
	f, err := r.ReadFrame()
	if err != nil {
		return proto.Frame{}, err
	}
	return f, c.conn.SetReadDeadline(time.Time{})
}

// frameBuffered reports whether a whole frame, or a bad length, is in the buffer.
func frameBuffered(in *bufio.Reader) bool {
	n := in.Buffered()
	if n < proto.LengthSize {
		return false
	}
	head, err := in.Peek(proto.LengthSize)
	if err != nil {
		return false
	}
	length := binary.BigEndian.Uint32(head)
	return length > proto.MaxFrame || n-proto.LengthSize >= int(length)
}

// dispatch hands one frame to its session. Frames for ids that are not open, such as late
// or invented ones, are ignored.
func (c *Client) dispatch(f proto.Frame) {
	c.mu.Lock()
	s := c.pending[f.ID]
	c.mu.Unlock()
	if s == nil {
		return
	}
	ev, terminal, err := s.interpret(f)
	ev.size = proto.LengthSize + proto.MinFrame + len(f.Body)
	if err != nil {
		c.forget(s.id)
		s.end(err)
		return
	}
	if ev.typ == proto.TypeFlow {
		s.took(ev.size) // the guest has counted it as output
		return
	}
	if ev.typ == "" && !s.raw {
		c.opts.Logger.Debug("ignored a message that does not fit its session", "id", f.ID)
		return
	}
	if terminal {
		c.forget(s.id)
	}
	for !s.offer(ev, terminal) {
		if !c.awaitRoom(s) {
			return
		}
	}
}

// interpret opens a frame for its session. An event without a type is to be ignored. The
// flags must be those of the type; an unknown or unfitting type is ignored unless it
// would end the session, which is a breach.
func (s *session) interpret(f proto.Frame) (ev event, terminal bool, err error) {
	terminal = f.Flags&proto.FlagTerminal != 0
	if s.raw {
		return event{flags: f.Flags, body: bytes.Clone(f.Body)}, terminal, nil
	}
	m, err := proto.ParseMessage(f)
	if err != nil {
		return event{}, false, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if m.Type == proto.TypeFlow {
		return event{typ: m.Type}, false, s.moreInput(m)
	}
	if !fits(s.typ, m.Type) {
		if terminal {
			return event{}, false, fmt.Errorf("%w: %s ended by %q", ErrProtocol, s.typ, m.Type)
		}
		return event{}, false, nil
	}
	if err := m.CheckFlags(); err != nil {
		return event{}, false, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	ev = event{typ: m.Type, flags: m.Flags}
	switch m.Type {
	case proto.TypeExecStdout, proto.TypeExecStderr, proto.TypeFSData, proto.TypeTCPData:
		data, err := proto.DecodeData(m.Payload)
		if err != nil {
			return event{}, false, protocolError(m.Type, err)
		}
		ev.body = bytes.Clone(data)
	case proto.TypeExecStdinError:
		ev.body = bytes.Clone(m.Payload)
		// Writers must learn of it even while nobody reads the session.
		s.breakWrites(stdinError(m.Payload))
	default:
		ev.body = bytes.Clone(m.Payload)
	}
	return ev, terminal, nil
}

// fits reports whether a guest may send t in a session opened by request.
func fits(request, t proto.Type) bool {
	if t == proto.TypeError {
		return true
	}
	switch request {
	case proto.TypePing:
		return t == proto.TypePong
	case proto.TypeTouch:
		return t == proto.TypeTouched
	}
	family := request[:strings.LastIndexByte(string(request), '.')+1]
	return t.Known() && strings.HasPrefix(string(t), string(family)) && !hostOnly(t)
}

// hostOnly reports the types that only hosts send.
func hostOnly(t proto.Type) bool {
	switch t {
	case proto.TypeExecRequest, proto.TypeExecStdin, proto.TypeExecResize, proto.TypeExecSignal,
		proto.TypeFSRequest, proto.TypeTCPConnect, proto.TypeTCPClose:
		return true
	}
	return false
}

// awaitRoom waits until some queue has shrunk. When the limit passes and others wait
// behind the session, it ends the one that holds the memory. It returns false when the
// connection has ended.
func (c *Client) awaitRoom(s *session) bool {
	timer := time.NewTimer(c.opts.StallLimit)
	defer timer.Stop()
	select {
	case <-c.space:
		return true
	case <-c.done:
		return false
	case <-timer.C:
	}
	victim, others := c.stalled(s)
	if others {
		c.opts.Logger.Debug("ended a session whose output nobody reads", "id", victim.id)
		victim.drop(ErrStalled)
		c.background(victim.tellEnd)
	}
	return true
}

// stalled picks the session to blame: s if it holds unread output, else the one that
// holds the most. others is false if no other live session waits.
func (c *Client) stalled(s *session) (victim *session, others bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	victim, most := s, s.unread()
	for _, p := range c.pending {
		if p != s && !p.idle() {
			others = true
			break
		}
	}
	if most > 0 {
		return s, others
	}
	for p := range c.live {
		if n := p.unread(); n > most {
			victim, most = p, n
		}
	}
	// s itself waits behind the victim; without one it was read just now.
	return victim, most > 0
}

func (s *session) unread() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cost
}

// idle reports a session that nobody can be waiting for.
func (s *session) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.discard || s.over
}

// goodbyeTimeout bounds messages that tidy up after a session in the guest.
const goodbyeTimeout = time.Second

// background runs f, which tells the guest something nobody waits for.
func (c *Client) background(f func(ctx context.Context) error) {
	c.workers.Go(func() {
		if err := c.goodbye(f); err != nil {
			c.opts.Logger.Debug("could not tell the guest to end a session", "err", err)
		}
	})
}

func (c *Client) goodbye(f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), goodbyeTimeout)
	defer cancel()
	return f(ctx)
}
