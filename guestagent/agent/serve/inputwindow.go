//go:build linux

package serve

import (
	"github.com/gomsb/gomsb/guestagent/flow"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// inputWindow is how much a client that keeps to it sends ahead of who takes it, bytes. It
// is a fraction of what an inbox holds, so that such a client never holds up everything.
const inputWindow = 1 << 20

func (s *Server) inputWindow() int { return min(inputWindow, max(s.budget.each/4, 1)) }

// newInbox is the inbox of the session with that gate.
func (s *Server) newInbox(id uint32, g *gate) *inbox {
	q := newInbox(&s.budget)
	if g.input {
		q.window = flow.NewWindow(s.inputWindow())
		q.tell = func(limit uint64) { s.tellInput(id, g, limit) }
	}
	return q
}

// tellInput raises the limit of a session's input.
func (s *Server) tellInput(id uint32, g *gate, limit uint64) {
	// An error means that the stream is broken, which Run learns by itself.
	_ = s.out.Send(func(dst []byte) ([]byte, error) {
		b, err := proto.AppendMessage(dst, id, proto.TypeFlow, proto.Flow{Limit: limit})
		if err == nil && !g.count(len(b)-len(dst)) {
			return dst, nil
		}
		return b, err
	})
}

// took notes that n bytes were taken.
func (q *inbox) took(n int) {
	if q.window == nil || n == 0 {
		return
	}
	if limit, tell := q.window.Take(n); tell {
		q.tell(limit)
	}
}
