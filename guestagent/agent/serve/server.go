//go:build linux

package serve

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/agent/account"
	"github.com/gomsb/gomsb/guestagent/agent/files"
	"github.com/gomsb/gomsb/guestagent/agent/outbox"
	"github.com/gomsb/gomsb/guestagent/agent/reap"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// ErrShutdown says that the host wants the guest to go.
var ErrShutdown = errors.New("the host asked for shutdown")

// Config describes a server. Stream and Reaper are required.
type Config struct {
	// Stream is the connection to the host, positioned behind the boot messages.
	Stream io.ReadWriter
	// Heartbeat connects to the host's listener for heartbeats; nil: none.
	Heartbeat func() (io.WriteCloser, error)
	// Beat is called before each heartbeat; nil: nothing.
	Beat func()
	// Upper tells how much of the writable layer is used and free, in bytes; nil: there is
	// none. It must not block.
	Upper func() (used, free uint64, ok bool)
	// Reaper starts and collects the commands.
	Reaper *reap.Table
	// Accounts are the guest's users.
	Accounts account.Database
	// Env is what every command inherits, "K=V".
	Env []string
	// DefaultUser and DefaultCwd are for requests that name none; "" is root and /.
	DefaultUser, DefaultCwd string
	// Restricted applies the restricted profile to every command.
	Restricted bool
	// UnscoreOOM undoes the agent's own protection from the OOM killer in its commands.
	UnscoreOOM bool
	// QueueTotal and QueueEach bound the input that waits in the guest, in bytes: of all
	// sessions and of one. 0 means 32 MiB and 4 MiB.
	QueueTotal, QueueEach int
	// Stall is how long a session that takes no input may hold up others; 0 is 30 s.
	Stall time.Duration
	// SetClock sets the wall clock; nil uses the system's.
	SetClock func(time.Time) error
	// Log receives what went wrong; nil discards it.
	Log func(text string)
}

func (c *Config) setDefaults() {
	if c.QueueTotal <= 0 {
		c.QueueTotal = 32 << 20
	}
	if c.QueueEach <= 0 {
		c.QueueEach = 4 << 20
	}
	if c.Stall <= 0 {
		c.Stall = 30 * time.Second
	}
	if c.SetClock == nil {
		c.SetClock = func(t time.Time) error {
			ts := unix.NsecToTimespec(t.UnixNano())
			return unix.ClockSettime(unix.CLOCK_REALTIME, &ts)
		}
	}
	if c.Log == nil {
		c.Log = func(string) {}
	}
}

// Server serves one host. Its life is New, Ready, Run; see Succeed.
type Server struct {
	cfg      Config
	in       *proto.Reader
	out      *outbox.Outbox
	files    *files.Service
	activity *activity
	budget   budget
	early    map[uint32]opening // of sessions whose request has not arrived; used by Run only
	deaf     atomic.Bool        // see gate
	trimming atomic.Bool        // an answer to proto.TypeTrim is on its way

	mu      sync.Mutex
	execs   map[uint32]*execSession // protected by mu
	uploads map[uint32]*upload      // protected by mu
	reads   map[uint32]*download    // protected by mu
	tcps    map[uint32]*tcpSession  // protected by mu
	busy    int                     // file operations under way; protected by mu
}

// inBuffer holds small frames between reads of the stream, bytes.
const inBuffer = 16 << 10

// New returns a server. It owns cfg.Stream's reading side.
func New(cfg Config) *Server {
	cfg.setDefaults()
	s := &Server{
		cfg:      cfg,
		in:       proto.NewReader(bufio.NewReaderSize(cfg.Stream, inBuffer)),
		out:      outbox.New(cfg.Stream),
		files:    files.New(),
		activity: &activity{},
		budget:   budget{limit: int64(cfg.QueueTotal), each: cfg.QueueEach, stall: cfg.Stall},
		early:    make(map[uint32]opening),
		execs:    make(map[uint32]*execSession),
		uploads:  make(map[uint32]*upload),
		reads:    make(map[uint32]*download),
		tcps:     make(map[uint32]*tcpSession),
	}
	s.budget.waits = s.wait
	return s
}

// Ready tells the host that the guest can serve.
func (s *Server) Ready(r proto.Ready) error {
	r.Flow, r.Input = true, uint64(s.inputWindow())
	return s.out.Message(0, proto.TypeReady, r)
}

// Run serves until the stream ends, which is io.EOF in good order, or the host asks for
// shutdown, which is [ErrShutdown]. Commands still run then; everything else is closed.
func (s *Server) Run() error {
	if s.cfg.Heartbeat != nil {
		stop := make(chan struct{})
		defer close(stop)
		go s.beat(stop) // not waited for: it may hang in the host's hands
	}
	for {
		f, err := s.in.ReadFrame()
		if err == nil {
			err = s.handle(f)
		}
		if err != nil {
			s.closeStreams(everyone)
			s.eachGate((*gate).open) // commands whose output nobody takes any more go on
			return err
		}
	}
}

// everyone is the ids of all clients.
var everyone = proto.IDRange{Start: 1, End: 1<<32 - 1}

// Terminate sends SIGTERM to the process group of each command.
func (s *Server) Terminate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.execs {
		e.process.Signal(unix.SIGTERM)
	}
}

// send writes one message to the host. That it cannot be written means that the stream is
// broken, which Run learns by itself.
func (s *Server) send(id uint32, t proto.Type, payload any) error {
	s.activity.said(t)
	return s.out.Message(id, t, payload)
}

// data writes one message of a data type.
func (s *Server) data(id uint32, t proto.Type, p []byte) error {
	s.activity.said(t)
	return s.out.Data(id, t, p)
}

// refuse answers a message that cannot be processed, if the peer knows such answers.
func (s *Server) refuse(m proto.Message, kind proto.ErrorKind, err error) {
	if m.Generation < proto.GenerationError {
		return
	}
	p := proto.CoreError{Kind: kind, Message: err.Error()}
	if m.Type != "" {
		p.OffendingType = &m.Type
	}
	_ = s.send(m.ID, proto.TypeError, p)
}

// decode decodes a payload, or refuses the message and reports false.
func (s *Server) decode(m proto.Message, dst any) bool {
	err := m.Decode(dst)
	if err != nil {
		s.refuse(m, proto.KindInvalidPayload, fmt.Errorf("decode payload for %s: %w", m.Type, err))
	}
	return err == nil
}
