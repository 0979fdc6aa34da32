package microsandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"sync"
	"time"

	"github.com/gomsb/gomsb/guestagent/client"
)

// ExecEventKind says what happened to a streaming command.
type ExecEventKind int

// Kinds of ExecEvent, in their order: Started, then data, then Exited or Failed, then
// Done.
const (
	ExecEventStarted ExecEventKind = iota + 1
	ExecEventStdout
	ExecEventStderr
	ExecEventExited
	ExecEventFailed
	ExecEventStdinError
	ExecEventDone
)

// ExecEvent is one thing that happened to a streaming command.
type ExecEvent struct {
	Kind     ExecEventKind
	PID      uint32       // Started: in the guest
	Data     []byte       // Stdout, Stderr
	ExitCode int          // Exited: 0 to 255, or -1 if a signal ended the command
	Failure  *ExecFailure // Failed, StdinError
}

// ExecHandle is a running command. One goroutine may Recv, Collect or Wait; Signal, Kill
// and Resize may be called besides.
type ExecHandle struct {
	exec     *client.Exec
	stdin    *ExecSink     // nil without a pipe
	stdout   io.Writer     // nil: whoever receives decides
	stderr   io.Writer     // likewise
	timeout  time.Duration // 0: none
	deadline time.Time     // when even a kill must have had its effect
	timer    *time.Timer   // nil without a timeout
	expired  chan struct{}
	stage    execStage // how far Recv got

	mu     sync.Mutex
	taken  bool // protected by mu
	closed bool // protected by mu
}

type execStage uint8

const (
	execFresh execStage = iota
	execRunning
	execEnded
)

// killGrace is how long a killed command may take to end.
const killGrace = 5 * time.Second

func newExecHandle(e *client.Exec, cfg *ExecConfig) *ExecHandle {
	h := &ExecHandle{exec: e, timeout: cfg.Timeout, stdout: cfg.Stdout, stderr: cfg.Stderr, expired: make(chan struct{})}
	if cfg.StdinPipe && cfg.Stdin == nil {
		h.stdin = &ExecSink{e}
	}
	if h.timeout > 0 {
		h.deadline = time.Now().Add(h.timeout + killGrace)
		h.timer = time.AfterFunc(h.timeout, func() {
			close(h.expired)
			h.giveUp()
		})
	}
	return h
}

// giveUp kills a command that nobody waits for any more.
func (h *ExecHandle) giveUp() {
	ctx, cancel := context.WithTimeout(context.Background(), killGrace)
	defer cancel()
	_ = h.exec.Kill(ctx) // it may have ended, and its connection too
}

// Recv returns the next event; after Done it keeps returning Done.
func (h *ExecHandle) Recv(ctx context.Context) (*ExecEvent, error) {
	switch h.stage {
	case execFresh:
		h.stage = execRunning
		return &ExecEvent{Kind: ExecEventStarted, PID: h.exec.PID()}, nil
	case execEnded:
		return &ExecEvent{Kind: ExecEventDone}, nil
	}
	if h.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, h.deadline)
		defer cancel()
	}
	e, err := h.exec.Recv(ctx)
	if h.timedOut() && (err != nil || e.Kind == client.EventExited) {
		h.stage = execEnded
		return nil, fail(ErrExecTimeout, "exec timed out after %s", h.timeout)
	}
	if err != nil {
		return nil, execError("", err)
	}
	switch e.Kind {
	case client.EventStdout:
		return &ExecEvent{Kind: ExecEventStdout, Data: e.Data}, nil
	case client.EventStderr:
		return &ExecEvent{Kind: ExecEventStderr, Data: e.Data}, nil
	case client.EventStdinError:
		return &ExecEvent{Kind: ExecEventStdinError, Failure: stdinFailure(e.Err)}, nil
	}
	h.stage = execEnded
	if h.timer != nil {
		h.timer.Stop()
	}
	return &ExecEvent{Kind: ExecEventExited, ExitCode: e.Code}, nil
}

func stdinFailure(err error) *ExecFailure {
	f := &ExecFailure{Kind: "stdin", Message: err.Error()}
	var in *client.StdinError
	if errors.As(err, &in) {
		f.Message, f.ErrnoName = in.Message, in.ErrnoName
		if in.Errno != 0 {
			f.Errno = &in.Errno
		}
	}
	return f
}

func (h *ExecHandle) timedOut() bool {
	select {
	case <-h.expired:
		return true
	default:
		return false
	}
}

// maxCollect bounds what Collect keeps in memory, bytes: the guest decides how much a
// command prints.
const maxCollect = 1 << 30

// Collect gathers all output, at most 1 GiB, until the command has ended. What has a writer
// of WithExecStdout or WithExecStderr goes there.
func (h *ExecHandle) Collect(ctx context.Context) (*ExecOutput, error) {
	var out, errOut bytes.Buffer
	left := maxCollect
	keep := func(w io.Writer, b *bytes.Buffer) io.Writer {
		if w != nil {
			return w
		}
		return &kept{b, &left}
	}
	code, err := h.drain(ctx, keep(h.stdout, &out), keep(h.stderr, &errOut))
	if err != nil {
		return nil, err
	}
	return &ExecOutput{client.Output{Stdout: out.Bytes(), Stderr: errOut.Bytes(), Code: code}}, nil
}

// kept is output in memory, of which there is a limit.
type kept struct {
	*bytes.Buffer
	left *int
}

// Write fails beyond the limit.
func (k *kept) Write(p []byte) (int, error) {
	if *k.left -= len(p); *k.left < 0 {
		return 0, fail(ErrInternal, "the command printed more than %d MiB: receive its output with ExecStream", maxCollect>>20)
	}
	return k.Buffer.Write(p)
}

// Wait returns the exit code. It drops the output that has no writer of WithExecStdout or
// WithExecStderr.
func (h *ExecHandle) Wait(ctx context.Context) (int, error) {
	if h.stage == execEnded {
		return 0, fail(ErrInvalidHandle, "the command's exit code was already received")
	}
	return h.drain(ctx, h.stdout, h.stderr)
}

// drain writes the output until the command has ended, and returns its code, 0 if that was
// already received. A nil writer drops.
func (h *ExecHandle) drain(ctx context.Context, stdout, stderr io.Writer) (code int, err error) {
	for {
		e, err := h.Recv(ctx)
		if err != nil {
			return 0, err
		}
		w := stdout
		switch e.Kind {
		case ExecEventExited:
			code = e.ExitCode
			continue
		case ExecEventDone:
			return code, nil
		case ExecEventStderr:
			w = stderr
		}
		if w == nil || len(e.Data) == 0 {
			continue
		}
		if _, err := w.Write(e.Data); err != nil {
			return 0, wrap(ErrIO, err)
		}
	}
}

// feed sends the command what r gives. Errors of r end the input as its end does: the
// command sees no more.
func (h *ExecHandle) feed(r io.Reader) {
	sink := &ExecSink{h.exec}
	_, _ = io.Copy(sink, r) // a command that reads no more, or has ended, is no concern
	_ = sink.Close()
}

// Events are what happens to the command until it is done, as Recv returns it, but for the
// last, Done. An error is the last element.
func (h *ExecHandle) Events(ctx context.Context) iter.Seq2[*ExecEvent, error] {
	return each(func() (*ExecEvent, error) {
		e, err := h.Recv(ctx)
		if err == nil && e.Kind == ExecEventDone {
			return nil, nil
		}
		return e, err
	})
}

// Signal sends a signal, 1 to 31, to the command's process group.
func (h *ExecHandle) Signal(ctx context.Context, signal int) error {
	if signal < 1 || signal > 31 {
		return fail(ErrInvalidArgument, "signal %d: use 1 to 31", signal)
	}
	return agentError(h.exec.Signal(ctx, signal))
}

// Kill sends SIGKILL to the command's process group.
func (h *ExecHandle) Kill(ctx context.Context) error { return agentError(h.exec.Kill(ctx)) }

// Resize tells a command with a terminal its size in character cells.
func (h *ExecHandle) Resize(ctx context.Context, rows, cols uint16) error {
	return agentError(h.exec.Resize(ctx, rows, cols))
}

// ID names the command on its connection.
func (h *ExecHandle) ID() (string, error) {
	return strconv.FormatUint(uint64(h.exec.ID()), 10), nil
}

// TakeStdin returns the command's input, once; nil without WithExecStdinPipe.
func (h *ExecHandle) TakeStdin() *ExecSink {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.taken {
		return nil
	}
	h.taken = true
	return h.stdin
}

// Close gives the handle up; the command goes on as long as its sandbox handle is open.
func (h *ExecHandle) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fail(ErrInvalidHandle, "command handle is closed")
	}
	h.closed = true
	if h.timer != nil {
		h.timer.Stop()
	}
	h.exec.Close()
	return nil
}

// ExecSink is a command's standard input.
type ExecSink struct{ exec *client.Exec }

// Write sends p, waiting while the command does not read.
func (s *ExecSink) Write(p []byte) (int, error) { return s.WriteCtx(context.Background(), p) }

// WriteCtx is Write bounded by ctx.
func (s *ExecSink) WriteCtx(ctx context.Context, p []byte) (int, error) {
	n, err := s.exec.WriteContext(ctx, p)
	if err != nil {
		return n, wrap(ErrIO, fmt.Errorf("stdin of the command: %w", err))
	}
	return n, nil
}

// Close ends the input.
func (s *ExecSink) Close() error { return agentError(s.exec.CloseStdin(context.Background())) }
