//go:build linux

package serve

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// limits are how much of a session's output each hop takes, in bytes of frames since the
// session began.
type limits [proto.Hops]uint64

// unlimited is for hops that do not take part.
var unlimited = limits{math.MaxUint64, math.MaxUint64}

// gate stops a session's output while a hop towards its reader has no room. It does not
// while the server's loop waits for some session to take input: room is only heard of by
// the loop, and the session may be waiting to send before it takes more.
type gate struct {
	deaf  *atomic.Bool // the loop waits
	input bool         // the client keeps to limits of the session's input

	mu     sync.Mutex
	raised sync.Cond // on mu
	limits limits    // protected by mu
	sent   uint64    // protected by mu
	gone   bool      // nobody listens, so nothing is stopped; protected by mu
}

func newGate(o opening, deaf *atomic.Bool) *gate {
	g := &gate{deaf: deaf, limits: o.limits, input: o.input}
	g.raised.L = &g.mu
	return g
}

// raise notes a hop's new limit.
func (g *gate) raise(hop proto.Hop, limit uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limits[hop] = max(g.limits[hop], limit)
	g.raised.Broadcast()
}

// open lets everything pass, now and later.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gone = true
	g.raised.Broadcast()
}

// pass waits until a message of n bytes may be sent: below the limit, not up to it, so
// that no message is too large.
func (g *gate) pass(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for !g.gone && !g.deaf.Load() && g.sent >= slices.Min(g.limits[:]) {
		g.raised.Wait()
	}
	g.sent += uint64(n)
}

// count adds a message that does not wait, and reports whether anybody listens.
func (g *gate) count(n int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sent += uint64(n)
	return !g.gone
}

// opening is what hosts say before a request.
type opening struct {
	limits
	input bool // see gate
}

// maxEarly bounds the windows whose requests have not arrived. Each request follows its
// windows at once, so there is one for each client.
const maxEarly = 4 * proto.MaxClients

// flow takes note of a window. Those of sessions that are gone are ignored.
func (s *Server) flow(m proto.Message) {
	var p proto.Flow
	if !s.decode(m, &p) || p.Hop >= proto.Hops {
		return
	}
	if p.Open {
		o, known := s.early[m.ID]
		if !known {
			o.limits = unlimited
		}
		o.limits[p.Hop] = p.Limit
		o.input = o.input || p.Input
		if known || len(s.early) < maxEarly {
			s.early[m.ID] = o
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.execs[m.ID]; e != nil {
		e.gate.raise(p.Hop, p.Limit)
	}
	if d := s.reads[m.ID]; d != nil {
		d.gate.raise(p.Hop, p.Limit)
	}
	if t := s.tcps[m.ID]; t != nil {
		t.gate.raise(p.Hop, p.Limit)
	}
}

// newGate is the gate of the session that a request opens. It is called for each of them.
func (s *Server) newGate(id uint32) *gate {
	o, ok := s.early[id]
	if !ok {
		o.limits = unlimited
	}
	delete(s.early, id)
	return newGate(o, &s.deaf)
}

// wait is told when the loop begins to wait for a session, and when that ends.
func (s *Server) wait(begins bool) {
	s.deaf.Store(begins)
	if begins {
		s.eachGate((*gate).recheck)
	}
}

// recheck wakes whoever is stopped.
func (g *gate) recheck() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.raised.Broadcast()
}

// eachGate calls f with the gates of all sessions.
func (s *Server) eachGate(f func(*gate)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.execs {
		f(e.gate)
	}
	for _, d := range s.reads {
		f(d.gate)
	}
	for _, t := range s.tcps {
		f(t.gate)
	}
}
