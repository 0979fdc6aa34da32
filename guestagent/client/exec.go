package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// stdinChunk is how much of a command's input goes into one message. It is small so that
// the input of one session does not hold up the messages of others.
const stdinChunk = 64 << 10

// Command says what to run in the guest. Name is looked up in PATH; no shell is involved.
// Env entries are "K=V". Empty Dir and User mean the sandbox's defaults. Rows and Cols
// (0: 24 and 80) matter only with TTY.
type Command struct {
	Name    string
	Args    []string
	Env     []string
	Dir     string
	User    string
	TTY     bool
	Rows    uint16
	Cols    uint16
	Rlimits []proto.Rlimit
}

func (c Command) request() proto.ExecRequest {
	r := proto.ExecRequest{
		Cmd: c.Name, Args: c.Args, Env: c.Env, TTY: c.TTY,
		Rows: c.Rows, Cols: c.Cols, Rlimits: c.Rlimits,
	}
	if c.Dir != "" {
		r.Cwd = &c.Dir
	}
	if c.User != "" {
		r.User = &c.User
	}
	if r.Rows == 0 {
		r.Rows = proto.DefaultRows
	}
	if r.Cols == 0 {
		r.Cols = proto.DefaultCols
	}
	return r
}

// EventKind says what an Event is.
type EventKind uint8

// The kinds of event.
const (
	EventStdout     EventKind = iota + 1 // Data; all output of a TTY command
	EventStderr                          // Data
	EventStdinError                      // Err, a *StdinError; the command goes on
	EventExited                          // Code; the last event
)

// Event is something a running command did.
type Event struct {
	Kind EventKind
	Data []byte
	Code int // 0-255, or -1 if a signal ended the command
	Err  error
}

// Exec is a running command. Read its events with Recv, Copy or Wait until it has exited,
// or Close it: unread output holds up the other sessions of the connection. Methods may
// be called concurrently.
type Exec struct {
	s    *session
	name string
	pid  uint32
}

// Exec starts a command and returns when it runs. A command that cannot start is an
// *ExecError. If ctx ends the wait, the command is killed.
func (c *Client) Exec(ctx context.Context, cmd Command) (*Exec, error) {
	s, err := c.open(ctx, proto.TypeExecRequest, cmd.request())
	if err != nil {
		return nil, err
	}
	e := &Exec{s: s, name: cmd.Name}
	if err := e.started(ctx); err != nil {
		s.abandon()
		if ctx.Err() != nil {
			_ = c.goodbye(e.Kill) // best effort; the caller's error is the one to report
		}
		return nil, err
	}
	return e, nil
}

func (e *Exec) started(ctx context.Context) error {
	ev, err := e.s.recv(ctx)
	if err != nil {
		return endError(err)
	}
	if ev.typ == proto.TypeExecFailed {
		return e.failure(ev)
	}
	var p proto.ExecStarted
	if err := ev.decode(proto.TypeExecStarted, &p); err != nil {
		return err
	}
	e.pid = p.PID
	return nil
}

func (e *Exec) failure(ev event) error {
	var p proto.ExecFailed
	if err := ev.decode(proto.TypeExecFailed, &p); err != nil {
		return err
	}
	return &ExecError{
		Command: e.name, Kind: p.Kind, Errno: int(deref(p.Errno)), ErrnoName: deref(p.ErrnoName),
		Message: p.Message, Stage: deref(p.Stage),
	}
}

func stdinError(payload []byte) error {
	var p proto.ExecStdinError
	if err := proto.Unmarshal(payload, &p); err != nil {
		return protocolError(proto.TypeExecStdinError, err)
	}
	return &StdinError{Errno: int(deref(p.Errno)), ErrnoName: deref(p.ErrnoName), Message: p.Message}
}

// PID returns the command's process id in the guest.
func (e *Exec) PID() uint32 { return e.pid }

// ID returns the session's id on its connection.
func (e *Exec) ID() uint32 { return e.s.id }

// Recv returns the next event. After EventExited it returns io.EOF; when the session
// ended otherwise, an error such as [ErrDisconnected], [ErrStalled] or a *RemoteError.
// The end of ctx leaves the session as it is.
func (e *Exec) Recv(ctx context.Context) (Event, error) {
	for {
		ev, err := e.s.recv(ctx)
		if err != nil {
			return Event{}, err
		}
		switch ev.typ {
		case proto.TypeExecStdout:
			return Event{Kind: EventStdout, Data: ev.body}, nil
		case proto.TypeExecStderr:
			return Event{Kind: EventStderr, Data: ev.body}, nil
		case proto.TypeExecStdinError:
			return Event{Kind: EventStdinError, Err: stdinError(ev.body)}, nil
		case proto.TypeExecExited:
			code, err := exitCode(ev)
			return Event{Kind: EventExited, Code: code}, err
		case proto.TypeExecFailed:
			return Event{}, e.failure(ev)
		case proto.TypeExecStarted:
			// A second one says nothing new.
		default:
			return Event{}, ev.decode(proto.TypeExecExited, nil)
		}
	}
}

func exitCode(ev event) (int, error) {
	var p proto.ExecExited
	if err := ev.decode(proto.TypeExecExited, &p); err != nil {
		return 0, err
	}
	if p.Code < -1 || p.Code > 255 {
		return 0, fmt.Errorf("%w: exit code %d", ErrProtocol, p.Code)
	}
	return int(p.Code), nil
}

// Copy writes the command's output to stdout and stderr (nil discards) until it exits and
// returns its code: 0-255, or -1 if a signal ended it. An error of a writer ends the
// copy, not the command.
func (e *Exec) Copy(ctx context.Context, stdout, stderr io.Writer) (code int, err error) {
	for {
		ev, err := e.Recv(ctx)
		if err != nil {
			return 0, endError(err)
		}
		var w io.Writer
		switch ev.Kind {
		case EventStdout:
			w = stdout
		case EventStderr:
			w = stderr
		case EventExited:
			return ev.Code, nil
		}
		if w != nil && len(ev.Data) > 0 {
			if _, err := w.Write(ev.Data); err != nil {
				return 0, err
			}
		}
	}
}

// Wait discards output that was not received yet and returns the exit code.
func (e *Exec) Wait(ctx context.Context) (code int, err error) { return e.Copy(ctx, nil, nil) }

// Write sends input to the command; it blocks while the guest does not take it. It
// returns a *StdinError once the guest reported that the command's stdin is closed, and
// io.ErrClosedPipe after its exit. It is WriteContext without a context.
func (e *Exec) Write(p []byte) (int, error) { return e.WriteContext(context.Background(), p) }

// WriteContext is Write ended by ctx. The count says how much of p was surely sent.
func (e *Exec) WriteContext(ctx context.Context, p []byte) (n int, err error) {
	for n < len(p) {
		chunk := p[n:min(len(p), n+stdinChunk)]
		if err := e.s.sendInput(ctx, proto.TypeExecStdin, chunk); err != nil {
			return n, err
		}
		n += len(chunk)
	}
	return n, nil
}

// CloseStdin ends the command's input; for a TTY it does nothing. Closing the input of a
// command that has ended is not an error.
func (e *Exec) CloseStdin(ctx context.Context) error {
	if err := e.s.writable(); err != nil {
		if errors.Is(err, io.ErrClosedPipe) || errors.As(err, new(*StdinError)) {
			return nil
		}
		return err
	}
	return e.s.c.sendData(ctx, e.s.id, proto.TypeExecStdin, nil)
}

// Resize changes the size of the command's terminal, in character cells.
func (e *Exec) Resize(ctx context.Context, rows, cols uint16) error {
	return e.s.c.send(ctx, e.s.id, proto.TypeExecResize, proto.ExecResize{Rows: rows, Cols: cols})
}

// Signal sends signal 1-31, in Linux numbers, to the command's process group. Signalling
// a command that has exited does nothing.
func (e *Exec) Signal(ctx context.Context, signal int) error {
	if signal < 1 || signal > 31 {
		return fmt.Errorf("signal %d cannot be sent: want 1 to 31", signal)
	}
	return e.s.c.send(ctx, e.s.id, proto.TypeExecSignal, proto.ExecSignal{Signal: int32(signal)})
}

// Kill sends SIGKILL.
func (e *Exec) Kill(ctx context.Context) error { return e.Signal(ctx, linuxSIGKILL) }

// Close gives the session up without ending the command: output is dropped from now on
// and Recv returns [ErrClosed]. The relay kills the command when the connection closes.
func (e *Exec) Close() { e.s.abandon() }
