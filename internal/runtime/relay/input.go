package relay

import (
	"math"
	"sync"
	"time"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// heldBytes is how much input of one command is held for a guest that has no room for it,
// before its client is not read any more.
const heldBytes = 8 << 20

// patience is how many times Config.Stall a client waits to be read again, until its
// command's input is lost. The guest speaks of a quarter of its window at a time, so that a
// command that takes less in that time loses it as well.
const patience = 2

// input is how much of a command's input the guest takes, for a client that knows no
// windows: the relay keeps to the guest's limits in its place. Without, the guest would
// stop reading everybody. What the client says besides input overtakes what is held.
type input struct {
	mu      sync.Mutex
	limit   uint64   // bytes since the session began; protected by mu
	sent    uint64   // protected by mu
	held    []*frame // protected by mu
	bytes   int      // of held; protected by mu
	feeding bool     // feed runs, and orders what is passed on; protected by mu
	over    bool     // the session has ended, or its input is lost; protected by mu

	more  chan struct{} // for feed: the guest may have room, or all is over
	space chan struct{} // for the client's reader: something was passed on, or all is over
}

func newInput(limit uint64) *input {
	return &input{limit: limit, more: make(chan struct{}, 1), space: make(chan struct{}, 1)}
}

// raise notes a new limit.
func (i *input) raise(limit uint64) {
	i.mu.Lock()
	i.limit = max(i.limit, limit)
	i.mu.Unlock()
	poke(i.more)
}

// end drops what is held, and what comes later: nobody takes it any more.
func (i *input) end(pool *framePool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.over = true
	for _, f := range i.held {
		pool.release(f)
	}
	i.held, i.bytes = nil, 0
	poke(i.more)
	poke(i.space)
}

// What is to be done with a frame of input.
type verdict int

const (
	passed  verdict = iota // on to the guest with it
	dropped                // it is for nobody
	holds                  // it is held; feed has to be started
	held                   // it is held
)

// offer takes a frame with n bytes of input, of which it takes a reference if it holds it.
// A message may exceed the limit, so that none is too large.
func (i *input) offer(f *frame, n int) verdict {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.over:
		return dropped
	case !i.feeding && i.sent < i.limit:
		i.sent += uint64(n)
		return passed
	}
	f.refs.Add(1)
	i.held = append(i.held, f)
	i.bytes += len(f.buf)
	if i.feeding {
		return held
	}
	i.feeding = true
	return holds
}

// next is the next frame that the guest has room for; none while it has not. more is false
// when nothing is held any more: then feed ends.
func (i *input) next() (f *frame, more bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.held) == 0 {
		i.feeding = false
		return nil, false
	}
	if i.sent >= i.limit {
		return nil, true
	}
	f = i.held[0]
	i.held[0] = nil
	i.held = i.held[1:]
	i.bytes -= len(f.buf)
	i.sent += uint64(inputSize(f))
	poke(i.space)
	return f, true
}

// full reports that enough is held.
func (i *input) full() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.bytes >= heldBytes
}

// notInput is what inputSize says of other frames.
const notInput = -1

// inputSize is how much input a frame brings.
func inputSize(f *frame) int {
	env, err := proto.ParseEnvelope(f.body())
	if err != nil || env.Type != proto.TypeExecStdin {
		return notInput
	}
	data, err := proto.DecodeData(env.Payload)
	if err != nil {
		return notInput // the guest says what is wrong
	}
	return len(data)
}

// admit reports whether a frame is to be passed on at once. If not, it is input that is
// held, or lost. It waits while too much is held.
func (c *client) admit(f *frame, i *input) bool {
	n := inputSize(f)
	if n == notInput {
		return true
	}
	switch i.offer(f, n) {
	case passed:
		return true
	case dropped:
		return false
	case holds:
		c.feeders.Go(func() { c.feed(i) })
	}
	if i.full() {
		c.waitForSpace(f.id(), i)
	}
	return false
}

// feed passes on what is held, as the guest takes it.
func (c *client) feed(i *input) {
	for {
		f, more := i.next()
		switch {
		case !more:
			return
		case f != nil:
			err := c.relay.write(f.buf)
			c.relay.pool.release(f)
			if err != nil {
				i.end(c.relay.pool)
			}
			continue
		}
		select {
		case <-i.more:
		case <-c.gone:
			i.end(c.relay.pool)
		case <-c.relay.done:
			i.end(c.relay.pool)
		}
	}
}

// waitForSpace returns when less is held, or nothing at all is taken for too long: then
// the input is lost, as it is when the client has gone.
func (c *client) waitForSpace(id uint32, i *input) {
	limit := patience * c.relay.cfg.Stall
	stall, tick := time.NewTimer(limit), time.NewTicker(min(time.Second, c.relay.cfg.Stall))
	defer stall.Stop()
	defer tick.Stop()
	for i.full() {
		select {
		case <-tick.C:
			if HungUp(c.conn) {
				i.end(c.relay.pool)
			}
		case <-i.space:
			stall.Reset(limit)
		case <-stall.C:
			if c.relay.paused.Load() != nil { // the guest is not to blame
				stall.Reset(limit)
				continue
			}
			i.end(c.relay.pool)
			c.tellLost(id)
		}
	}
}

// etimedout is ETIMEDOUT in the guest.
const etimedout = 110

// tellLost tells the client that a command's input is lost, as the guest would, unless it
// does not read.
func (c *client) tellLost(id uint32) {
	errno := int32(etimedout)
	b, err := proto.AppendMessage(nil, id, proto.TypeExecStdinError, proto.ExecStdinError{
		Errno: &errno, ErrnoName: proto.StdinErrnoName(etimedout), Message: "io error: " + proto.ErrnoText(etimedout),
	})
	if err != nil {
		return
	}
	f := c.relay.pool.get(len(b))
	copy(f.buf, b)
	if !c.queue.push(f) {
		c.relay.pool.release(f)
	}
}

// limited takes a limit of input that is meant for the relay out of what the guest says,
// and reports whether f was one.
func (c *client) limited(f *frame, i *input) bool {
	m, err := proto.ParseMessage(proto.Frame{ID: f.id(), Flags: f.flags(), Body: f.body()})
	if err != nil || m.Type != proto.TypeFlow {
		return false
	}
	var p proto.Flow
	if err := m.Decode(&p); err != nil {
		c.relay.log.Debug("the guest sent a malformed limit", "err", err)
		p.Limit = math.MaxUint64
	}
	i.raise(p.Limit)
	c.queue.skip(f)
	return true
}

// keepsWindows reports that a client speaks of windows itself, with the first frame of a
// session.
func keepsWindows(f *frame) bool {
	m, err := proto.ParseMessage(proto.Frame{ID: f.id(), Flags: f.flags(), Body: f.body()})
	if err != nil || m.Type != proto.TypeFlow {
		return false
	}
	var p proto.Flow
	return m.Decode(&p) == nil && p.Open && p.Input
}
