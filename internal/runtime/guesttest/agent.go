package guesttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// Agent is a fake guest agent. Set the fields before Serve.
//
// Commands: echo ARGS (to stdout), warn ARGS (to stderr), cat (stdin to stdout until its
// end), exit CODE, sleep (until a signal, then -1), flood BYTES (output in 32 KiB pieces),
// crash HOW (see Crash), request (prints what was asked for, as JSON), renewed (prints how the
// copy was renewed, as JSON), fail KIND (does not start). Any other is not found.
type Agent struct {
	BootFailure *proto.CoreError // sent instead of ready
	NoResolved  bool             // skip init.resolved
	DefaultUser proto.DefaultUser
	NeverReady  bool             // stop after the bootstrap
	Flow        bool             // announce proto.TypeFlow, but keep to no window
	IgnoreStop  bool             // do not react to core.shutdown
	Crash       func(how string) // runs the command crash; nil ignores it

	still   standstill
	renewed proto.Renew // used by Serve only

	mu       sync.Mutex
	conn     net.Conn
	out      *proto.Writer
	received []proto.Message
	running  map[uint32]string // id to command
	changed  chan struct{}
	stopped  bool
	activity uint64
}

// Ready is what the agent announces.
var Ready = proto.Ready{BootTimeNs: 1, InitTimeNs: 2, ReadyTimeNs: 3, AgentVersion: "test"}

// Serve speaks on conn until the peer closes it or asks for shutdown, which it answers
// by closing the stream in good order. It returns nil after a shutdown.
func (a *Agent) Serve(conn net.Conn) error {
	a.mu.Lock()
	a.conn, a.out = conn, proto.NewWriter(conn)
	a.running = make(map[uint32]string)
	a.mu.Unlock()
	in := proto.NewReader(conn)
	for {
		f, err := in.ReadFrame()
		if err != nil {
			return err
		}
		f.Body = bytes.Clone(f.Body)
		m, err := proto.ParseMessage(f)
		if err != nil {
			return err
		}
		if err := m.CheckFlags(); err != nil {
			return err
		}
		a.still.wait()
		a.note(m)
		if err := a.handle(m); err != nil {
			return err
		}
		if m.Type == proto.TypeShutdown && !a.IgnoreStop {
			a.mu.Lock()
			a.stopped = true
			a.mu.Unlock()
			if half, ok := conn.(interface{ CloseWrite() error }); ok {
				return half.CloseWrite()
			}
			return conn.Close()
		}
	}
}

// Stopped reports that the agent was asked to shut down and did.
func (a *Agent) Stopped() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stopped
}

func (a *Agent) note(m proto.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.received = append(a.received, m)
	if m.Type != proto.TypeClockSync && m.Type != proto.TypePing {
		a.activity++
	}
	if a.changed != nil {
		close(a.changed)
		a.changed = nil
	}
}

// Received lists the messages so far.
func (a *Agent) Received() []proto.Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]proto.Message(nil), a.received...)
}

// Await returns the n-th message (from 1) of type t, waiting for it.
func (a *Agent) Await(t proto.Type, n int) proto.Message {
	for {
		a.mu.Lock()
		seen := 0
		for _, m := range a.received {
			if m.Type == t {
				if seen++; seen == n {
					a.mu.Unlock()
					return m
				}
			}
		}
		if a.changed == nil {
			a.changed = make(chan struct{})
		}
		wait := a.changed
		a.mu.Unlock()
		<-wait
	}
}

// Send sends a message, whatever state the agent is in.
func (a *Agent) Send(id uint32, t proto.Type, payload any) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.out == nil {
		return errors.New("not connected")
	}
	return a.out.WriteMessage(id, t, payload)
}

func (a *Agent) handle(m proto.Message) error {
	switch m.Type {
	case proto.TypeBootstrap:
		switch {
		case a.NeverReady:
			return nil
		case a.BootFailure != nil:
			return a.Send(0, proto.TypeError, a.BootFailure)
		case a.NoResolved:
			return a.Send(0, proto.TypeReady, a.ready())
		}
		return a.Send(0, proto.TypeInitResolved, proto.InitResolved{DefaultUser: a.DefaultUser})
	case proto.TypeRenew: // it is a copy of one that served
		if err := m.Decode(&a.renewed); err != nil || a.NeverReady {
			return err
		}
		return a.Send(0, proto.TypeReady, a.ready())
	case proto.TypeTrim:
		return a.Send(0, proto.TypeTrimmed, proto.Empty{})
	case proto.TypeInitAck:
		return a.Send(0, proto.TypeReady, a.ready())
	case proto.TypePing:
		return a.Send(m.ID, proto.TypePong, proto.Empty{})
	case proto.TypeTouch:
		return a.Send(m.ID, proto.TypeTouched, proto.Touched{ActivitySeq: a.counters().ActivitySeq})
	case proto.TypeExecRequest:
		return a.exec(m)
	case proto.TypeExecStdin:
		return a.stdin(m)
	case proto.TypeExecSignal:
		if a.end(m.ID) {
			return a.Send(m.ID, proto.TypeExecExited, proto.ExecExited{Code: -1})
		}
	}
	return nil
}

func (a *Agent) ready() proto.Ready {
	r := Ready
	r.Flow = a.Flow
	return r
}

func (a *Agent) end(id uint32) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.running[id]
	delete(a.running, id)
	return ok
}

func (a *Agent) exec(m proto.Message) error {
	var req proto.ExecRequest
	if err := m.Decode(&req); err != nil {
		return err
	}
	text := strings.Join(req.Args, " ")
	if kind := refusal(req.Cmd, text); kind != "" {
		return a.Send(m.ID, proto.TypeExecFailed, proto.ExecFailed{Kind: kind, Message: "no " + req.Cmd})
	}
	if err := a.Send(m.ID, proto.TypeExecStarted, proto.ExecStarted{PID: 42}); err != nil {
		return err
	}
	code := 0
	var err error
	switch req.Cmd {
	case "echo":
		err = a.data(m.ID, proto.TypeExecStdout, []byte(text+"\n"))
	case "warn":
		err = a.data(m.ID, proto.TypeExecStderr, []byte(text+"\n"))
	case "exit":
		code, err = strconv.Atoi(text)
	case "cat", "sleep":
		a.mu.Lock()
		a.running[m.ID] = req.Cmd
		a.mu.Unlock()
		return nil
	case "flood":
		err = a.flood(m.ID, text)
	case "crash":
		if a.Crash != nil {
			a.Crash(text)
		}
		return nil
	case "request":
		err = a.show(m.ID, req)
	case "renewed":
		err = a.show(m.ID, a.renewed)
	}
	if err != nil {
		return err
	}
	return a.Send(m.ID, proto.TypeExecExited, proto.ExecExited{Code: int32(code)})
}

// refusal is the kind of failure with which a command does not start.
func refusal(cmd, args string) proto.ExecFailureKind {
	switch cmd {
	case "echo", "warn", "exit", "cat", "sleep", "flood", "crash", "request", "renewed":
		return ""
	case "fail":
		return proto.ExecFailureKind(args)
	}
	return proto.FailNotFound
}

// show prints v as JSON.
func (a *Agent) show(id uint32, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.data(id, proto.TypeExecStdout, text)
}

func (a *Agent) data(id uint32, t proto.Type, p []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.out.WriteData(id, t, p)
}

func (a *Agent) flood(id uint32, size string) error {
	n, err := strconv.Atoi(size)
	if err != nil {
		return fmt.Errorf("flood: %w", err)
	}
	piece := bytes.Repeat([]byte("0123456789abcde\n"), 2048)
	for n > 0 {
		p := piece[:min(n, len(piece))]
		if err := a.data(id, proto.TypeExecStdout, p); err != nil {
			return err
		}
		n -= len(p)
	}
	return nil
}

func (a *Agent) stdin(m proto.Message) error {
	data, err := proto.DecodeData(m.Payload)
	if err != nil {
		return err
	}
	a.mu.Lock()
	cmd := a.running[m.ID]
	a.mu.Unlock()
	switch {
	case cmd != "cat":
		return nil
	case len(data) > 0:
		return a.data(m.ID, proto.TypeExecStdout, data)
	}
	if a.end(m.ID) {
		return a.Send(m.ID, proto.TypeExecExited, proto.ExecExited{})
	}
	return nil
}
