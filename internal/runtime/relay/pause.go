package relay

import (
	"errors"

	agent "github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// Pause is called before the guest stands still. From then on a client that Serve has
// accepted hears why it cannot have anything new, by a core.error of kind
// [agent.KindPaused], and the guest is not told the time, which would be wrong when it
// hears of it. What is under way waits with the guest; without a reason, so does what is
// new.
func (r *Relay) Pause(why string) { r.paused.Store(&why) }

// Resume is called when the guest runs again. It is told the time at once.
func (r *Relay) Resume() {
	r.paused.Store(nil)
	poke(r.resumed)
}

// errRefused reports a client that does not take a refusal.
var errRefused = errors.New("client goes on asking a paused guest")

// refuse answers the frame f of a client if the guest stands still and it is the first of
// its id, and drops those that follow with that id, whatever the guest does then. It
// reports whether it did either.
func (c *client) refuse(f *frame, fresh bool) (bool, error) {
	id := f.id()
	if _, known := c.refused[id]; known {
		return true, nil
	}
	why := c.relay.paused.Load()
	if why == nil || *why == "" || c.own || !fresh || id == 0 {
		return false, nil
	}
	b, err := proto.AppendMessage(nil, id, proto.TypeError, proto.CoreError{Kind: agent.KindPaused, Message: *why})
	if err != nil {
		return false, err
	}
	reply := c.relay.pool.get(len(b))
	copy(reply.buf, b)
	if len(c.refused) >= maxOpen || !c.queue.push(reply) {
		c.relay.pool.release(reply)
		return true, errRefused
	}
	if c.refused == nil {
		c.refused = make(map[uint32]struct{})
	}
	c.refused[id] = struct{}{}
	return true, nil
}
