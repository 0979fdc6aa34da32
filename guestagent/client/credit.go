package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// credit is how much input of a session the guest takes. Methods of nil do nothing, and
// grant everything.
type credit struct {
	mu    sync.Mutex
	limit uint64 // bytes since the session began; protected by mu
	sent  uint64 // protected by mu

	more chan struct{} // signals one writer that there may be more, or nothing any more
}

func newCredit(limit uint64) *credit { return &credit{limit: limit, more: make(chan struct{}, 1)} }

// spend takes n bytes, if there is anything left: a message may exceed the limit, so that
// none is too large.
func (c *credit) spend(n int) bool {
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent >= c.limit {
		return false
	}
	c.sent += uint64(n)
	c.wake() // another writer may be waiting
	return true
}

// refund gives back what was not sent after all.
func (c *credit) refund(n int) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent -= uint64(n)
	c.wake()
}

// raise notes a new limit.
func (c *credit) raise(limit uint64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = max(c.limit, limit)
	c.wake()
}

// wake has writers look again.
func (c *credit) wake() {
	if c != nil {
		signal(c.more)
	}
}

// wait is signalled when it is worth to look again; never for nil.
func (c *credit) wait() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.more
}

// sendInput sends one piece of a session's input when the guest has room for it.
func (s *session) sendInput(ctx context.Context, t proto.Type, p []byte) error {
	for {
		if err := s.writable(); err != nil {
			s.credit.wake() // the next writer is to learn of it too
			return err
		}
		if s.credit.spend(len(p)) {
			break
		}
		select {
		case <-s.credit.wait():
		case <-s.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := s.c.sendData(ctx, s.id, t, p)
	if err != nil && !errors.Is(err, errPartial) {
		s.credit.refund(len(p))
	}
	return err
}

// moreInput takes a limit of the session's input from the guest.
func (s *session) moreInput(m proto.Message) error {
	if err := m.CheckFlags(); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	var p proto.Flow
	if err := m.Decode(&p); err != nil {
		return protocolError(m.Type, err)
	}
	s.credit.raise(p.Limit)
	return nil
}
