package relay

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// client is one attached connection.
type client struct {
	relay *Relay
	conn  net.Conn
	slot  int
	ids   proto.IDRange
	queue *queue
	open  openIDs   // protected by relay.mu
	own   bool      // of this process: it is never refused
	left  time.Time // when it was gone, zero before; protected by relay.mu

	refused map[uint32]struct{} // ids of what a paused guest was not to hear; used by read only

	gone    chan struct{}  // closed when nothing more can be written to it
	keeps   bool           // it knows windows; used by read only
	feeders sync.WaitGroup // see feed
}

const clientBuffer = 16 << 10

// Attach serves a client of this process's own until it or the guest hangs up. It returns
// at once; a connection too many, or after the guest is gone, is closed without a word.
func (r *Relay) Attach(conn net.Conn) { r.attach(conn, true) }

func (r *Relay) attach(conn net.Conn, own bool) {
	r.mu.Lock()
	slot, ok := r.freeSlot(time.Now())
	if !ok || r.closed {
		r.mu.Unlock()
		_ = conn.Close()
		return
	}
	c := &client{relay: r, conn: conn, own: own, slot: slot, ids: proto.SlotRange(slot), queue: newQueue(r.pool, r.flow), gone: make(chan struct{})}
	// The handshake goes through the queue: it is first, and a client that does not
	// read it holds up nobody.
	hello := r.pool.get(8 + len(r.ready))
	c.ids.Append(hello.buf[:0])
	copy(hello.buf[8:], r.ready)
	c.queue.push(hello)
	r.clients[slot] = c
	r.wg.Add(2)
	r.mu.Unlock()
	go c.write()
	go c.read()
}

// write passes queued frames to the client.
func (c *client) write() {
	defer c.relay.wg.Done()
	if err := c.queue.drain(c.conn); err != nil {
		c.queue.close(true)
	}
	_ = c.conn.Close() // wakes read
	close(c.gone)
}

// read passes the client's frames to the guest, and cleans up when there are no more.
func (c *client) read() {
	defer c.relay.wg.Done()
	in := &frameReader{r: bufio.NewReaderSize(c.conn, clientBuffer), pool: c.relay.pool}
	var err error
	for err == nil {
		var f *frame
		if f, err = in.next(); err == nil {
			err = c.forward(f)
		}
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		c.relay.log.Debug("a client is disconnected", "slot", c.slot, "err", err)
	}
	c.queue.close(true)
	_ = c.conn.Close()
	c.feeders.Wait() // its ids will be somebody else's
	c.relay.detach(c)
}

// errForbidden reports a frame outside the client's ids.
var errForbidden = errors.New("frame with an id of somebody else")

// forward passes one frame to the guest, unmodified, when it may be passed. It takes over f.
func (c *client) forward(f *frame) error {
	r := c.relay
	defer r.pool.release(f)
	id, flags := f.id(), f.flags()
	if !c.ids.Allows(id, flags) {
		return errForbidden
	}
	fresh := c.open.isNew(id)
	if fresh {
		c.keeps = c.keeps || flags&proto.FlagSessionStart == 0 && keepsWindows(f)
	}
	if refused, err := c.refuse(f, fresh); refused || err != nil {
		return err
	}
	if fresh {
		r.mu.Lock()
		c.open.add(id)
		r.mu.Unlock()
	} else if i := c.inputOf(id); i != nil && !c.admit(f, i) {
		return nil
	}
	switch {
	case flags&proto.FlagSessionStart != 0:
		c.startSession(f)
	case flags&proto.FlagShutdown != 0:
		if env, err := proto.ParseEnvelope(f.body()); err == nil && env.Type == proto.TypeShutdown && r.cfg.OnShutdown != nil {
			r.cfg.OnShutdown()
		}
	}
	if flags&proto.FlagTerminal != 0 {
		r.mu.Lock()
		if s := r.sessions[id]; s != nil {
			s.owner = nil
		}
		r.mu.Unlock()
	}
	if flags&proto.FlagSessionStart == 0 || r.flow == nil {
		return r.write(f.buf)
	}
	return r.encode(func(dst []byte) ([]byte, error) { return c.request(dst, f) })
}

// inputOf is what limits the input of a session; nil if nothing does, or the client sees to
// that itself.
func (c *client) inputOf(id uint32) *input {
	if c.keeps || c.relay.input == 0 {
		return nil
	}
	c.relay.mu.Lock()
	defer c.relay.mu.Unlock()
	if s := c.relay.sessions[id]; s != nil {
		return s.input
	}
	return nil
}

// request appends a frame that opens a session behind the session's window, unless the
// client has more sessions than anybody keeps track of.
func (c *client) request(dst []byte, f *frame) ([]byte, error) {
	id := f.id()
	c.relay.mu.Lock()
	known := c.open.has(id)
	c.relay.mu.Unlock()
	if known {
		var err error
		if dst, err = c.queue.open(dst, id, c.inputOf(id) != nil); err != nil {
			return dst, err
		}
	}
	return append(dst, f.buf...), nil
}

// startSession remembers a command, for the log and for the day its client goes away.
func (c *client) startSession(f *frame) {
	env, err := proto.ParseEnvelope(f.body())
	if err != nil || env.Type != proto.TypeExecRequest {
		return
	}
	var request proto.ExecRequest
	tty := proto.Unmarshal(env.Payload, &request) == nil && request.TTY
	r := c.relay
	r.mu.Lock()
	r.counter++
	s := &session{number: r.counter, tty: tty, owner: c}
	if !c.keeps && r.input > 0 && c.open.has(f.id()) {
		s.input = newInput(r.input)
	}
	r.sessions[f.id()] = s
	r.mu.Unlock()
}

// hangUp ends the connection: at once, or when what is queued was read.
func (c *client) hangUp(atOnce bool) {
	c.queue.close(atOnce)
	if atOnce {
		_ = c.conn.Close()
		return
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(drainTime))
}

// sigkill is SIGKILL in the guest.
const sigkill = 9

// detach kills the commands that c left behind, tells the guest that its ids are unused,
// and only then gives up the slot.
func (r *Relay) detach(c *client) {
	r.mu.Lock()
	var orphans []uint32
	for id, s := range r.sessions {
		if !c.ids.Contains(id) {
			continue
		}
		if s.owner == c {
			orphans = append(orphans, id)
		}
		delete(r.sessions, id)
	}
	r.mu.Unlock()
	err := r.disown(c, orphans)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		r.log.Debug("cannot tell the guest that a client left", "slot", c.slot, "err", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c.left = time.Now()
	r.retire(c)
}

func (r *Relay) disown(c *client, orphans []uint32) error {
	for _, id := range orphans {
		if err := r.Send(id, proto.TypeExecSignal, proto.ExecSignal{Signal: sigkill}); err != nil {
			return err
		}
	}
	return r.Send(0, proto.TypeClientDisconnected, proto.ClientDisconnected{IDStart: c.ids.Start, IDEndExclusive: c.ids.End})
}
