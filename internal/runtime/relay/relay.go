package relay

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gomsb/gomsb/guestagent/flow"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// Log receives what commands print. Calls come from one goroutine at a time; data is only
// valid during the call.
type Log interface {
	// Output is a piece of a session's output, on stdout, stderr or a terminal (tty).
	// Sessions are numbered from 1 in the order in which they were asked for.
	Output(session uint64, stderr, tty bool, data []byte)
}

// Config describes a relay. Guest and Log are required.
type Config struct {
	// Guest is the agent's stream of frames.
	Guest net.Conn
	// Log receives output; see Log.
	Log Log
	// OnShutdown is called, at most once per frame, when a client asks the guest to
	// power off, before the guest hears of it. It must not block.
	OnShutdown func()
	// OnResolved is called with the guest's default user, before the guest hears that it
	// may go on; nil does nothing.
	OnResolved func(proto.DefaultUser)
	// Logger receives what went wrong; nil discards it.
	Logger *slog.Logger
	// Stall is how long a client that does not read may hold up others; 0 is 30 s.
	Stall time.Duration
}

// Relay is the host's end of the agent protocol. Its life is New, Boot or Rejoin, Run, Serve
// and Attach, Close.
type Relay struct {
	cfg   Config
	log   *slog.Logger
	pool  *framePool
	guest *frameReader
	ready []byte       // the ready frame as received; set by Boot or Rejoin
	flow  *flow.Teller // nil if the guest knows no windows; set by Boot or Rejoin
	input uint64       // with what limit of input sessions begin, 0 if the guest has none; set by Boot or Rejoin

	guestMu sync.Mutex // orders writes to the guest

	paused  atomic.Pointer[string] // why, nil while the guest runs
	resumed chan struct{}          // the guest is to hear the time

	trimMu  sync.Mutex    // held by Trim
	trimmed chan struct{} // the guest has answered

	mu       sync.Mutex
	clients  [proto.MaxClients]*client // protected by mu
	sessions map[uint32]*session       // by id; protected by mu
	counter  uint64                    // last session number; protected by mu
	closed   bool                      // no more clients; protected by mu

	wg   sync.WaitGroup // client goroutines
	done chan struct{}  // closed when the guest's stream has ended
	err  error          // why; set before done is closed
}

// session is a command whose output is logged.
type session struct {
	number uint64
	tty    bool
	input  *input  // nil if the client keeps to limits itself, or there are none
	owner  *client // nil once it no longer needs a kill at disconnect
}

const guestBuffer = 64 << 10

// New returns a relay on an agent's stream. It owns cfg.Guest from then on.
func New(cfg Config) *Relay {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Stall == 0 {
		cfg.Stall = 30 * time.Second
	}
	pool := &framePool{}
	return &Relay{
		cfg: cfg, log: cfg.Logger, pool: pool,
		guest:    &frameReader{r: bufio.NewReaderSize(cfg.Guest, guestBuffer), pool: pool},
		sessions: make(map[uint32]*session),
		done:     make(chan struct{}),
		resumed:  make(chan struct{}, 1),
		trimmed:  make(chan struct{}, 1),
	}
}

// Done is closed when the guest's stream has ended, after Run was called.
func (r *Relay) Done() <-chan struct{} { return r.done }

// Goodbye reports that the guest closed its stream in good order, which it does before it
// powers off. It is false until Done is closed.
func (r *Relay) Goodbye() bool {
	select {
	case <-r.done:
		return errors.Is(r.err, io.EOF)
	default:
		return false
	}
}

// Run passes the guest's frames to the clients until the guest's stream ends, and returns
// why: io.EOF is the good order. Boot must have succeeded.
func (r *Relay) Run() error {
	r.mu.Lock()
	if r.flow != nil && !r.closed {
		r.wg.Go(func() { _ = r.flow.Run(r.done, r.encode) }) // an error is the stream's, see below
	}
	r.mu.Unlock()
	var err error
	for {
		var f *frame
		if f, err = r.guest.next(); err != nil {
			break
		}
		r.route(f)
	}
	r.err = err
	close(r.done)
	r.hangUp(false)
	return err
}

// Serve accepts clients from l until l is closed, and keeps the guest's clock right
// meanwhile. Boot must have succeeded.
func (r *Relay) Serve(l net.Listener) error {
	stop := make(chan struct{})
	var clock sync.WaitGroup
	clock.Go(func() { r.syncClock(stop) })
	defer clock.Wait()
	defer close(stop)
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			r.attach(conn, false)
		case errors.Is(err, net.ErrClosed):
			return nil
		default: // out of descriptors, a client that went away: not the end
			r.log.Warn("cannot accept a client", "err", err)
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// flushTime is how long Close lets clients read what the guest said last.
const flushTime = 250 * time.Millisecond

// Close hangs up on the guest and on all clients, and returns when nothing of the relay
// runs any more but Run and Serve themselves. It is idempotent.
func (r *Relay) Close() error {
	err := r.cfg.Guest.Close()
	r.hangUp(false)
	gone := make(chan struct{})
	go func() {
		r.wg.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-time.After(flushTime):
		r.hangUp(true)
		<-gone
	}
	return err
}

// drainTime is how long clients have to read the last frames of a guest that is gone.
const drainTime = 2 * time.Second

// hangUp ends all clients: at once, or after they have read what is queued.
func (r *Relay) hangUp(atOnce bool) {
	r.mu.Lock()
	r.closed = true
	clients := make([]*client, 0, len(r.clients))
	for _, c := range r.clients {
		if c != nil {
			clients = append(clients, c)
		}
	}
	r.mu.Unlock()
	for _, c := range clients {
		c.hangUp(atOnce)
	}
}

// Send writes one message of the relay's own to the guest.
func (r *Relay) Send(id uint32, t proto.Type, payload any) error {
	b, err := proto.AppendMessage(nil, id, t, payload)
	if err != nil {
		return err
	}
	return r.write(b)
}

// Shutdown asks the guest to power off. It blocks while the guest takes nothing; Close
// ends that.
func (r *Relay) Shutdown() error { return r.Send(0, proto.TypeShutdown, nil) }

func (r *Relay) write(b []byte) error {
	return r.encode(func([]byte) ([]byte, error) { return b, nil })
}

// encode writes the frames that f appends.
func (r *Relay) encode(f func(dst []byte) ([]byte, error)) error {
	r.guestMu.Lock()
	defer r.guestMu.Unlock()
	b, err := f(nil)
	if err != nil || len(b) == 0 {
		return err
	}
	_, err = r.cfg.Guest.Write(b)
	return err
}

// route passes a guest's frame to the client that owns its id. It takes over f.
func (r *Relay) route(f *frame) {
	defer r.pool.release(f)
	id, terminal := f.id(), f.flags()&proto.FlagTerminal != 0
	slot, ok := proto.SlotOf(id)
	if !ok {
		r.guestSays(f)
		return
	}
	r.mu.Lock()
	c := r.clients[slot]
	s := r.sessions[id]
	if terminal {
		delete(r.sessions, id)
		if s != nil && s.input != nil {
			s.input.end(r.pool)
		}
		if c != nil {
			c.open.end(id)
			c.queue.end(id)
			r.retire(c)
		}
	}
	r.mu.Unlock()
	if c != nil && s != nil && s.input != nil && !terminal && c.limited(f, s.input) {
		return
	}
	if c != nil {
		f.refs.Add(1)
		r.deliver(c, f)
	}
	if s != nil && !terminal {
		r.tap(s, f)
	}
}

// deliver queues f for c, which takes over one reference. See the package comment for
// what happens while c does not read.
func (r *Relay) deliver(c *client, f *frame) {
	if c.queue.push(f) {
		return
	}
	since := time.Now()
	tick := time.NewTicker(min(time.Second, r.cfg.Stall))
	defer tick.Stop()
	for !c.queue.push(f) {
		select {
		case <-c.queue.space:
		case <-tick.C:
			if time.Since(since) >= r.cfg.Stall && r.others(c) {
				r.log.Warn("a client that does not read is disconnected", "slot", c.slot)
				c.hangUp(true)
			}
		}
	}
}

// others reports that clients besides c are attached.
func (r *Relay) others(c *client) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.clients {
		if o != nil && o != c && o.left.IsZero() {
			return true
		}
	}
	return false
}

// guestSays handles a frame for no client: after ready there is no such message, but an
// agent that could not understand the relay says so with id 0.
func (r *Relay) guestSays(f *frame) {
	m, err := proto.ParseMessage(proto.Frame{ID: f.id(), Flags: f.flags(), Body: f.body()})
	if err != nil {
		r.log.Debug("the guest sent a malformed frame", "err", err)
		return
	}
	if m.Type == proto.TypeTrimmed || trimRefused(m) {
		poke(r.trimmed)
		return
	}
	if m.Type != proto.TypeError {
		r.log.Debug("the guest sent a message for nobody", "type", string(m.Type))
		return
	}
	r.log.Warn("the guest refused a message of the relay", "err", guestError(m))
}

// tap logs the output in f.
func (r *Relay) tap(s *session, f *frame) {
	env, err := proto.ParseEnvelope(f.body())
	if err != nil || env.Type != proto.TypeExecStdout && env.Type != proto.TypeExecStderr {
		return
	}
	data, err := proto.DecodeData(env.Payload)
	if err != nil {
		return
	}
	r.cfg.Log.Output(s.number, env.Type == proto.TypeExecStderr, s.tty, data)
}
