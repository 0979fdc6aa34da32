package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/flagtype"
	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

// execution holds the flags about one command, shared by run and exec.
type execution struct {
	tty, noTTY bool
	timeout    string
	rlimits    []string
	detachKeys string
}

func (x *execution) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVarP(&x.tty, "tty", "t", false, "give the command a terminal")
	f.BoolVar(&x.noTTY, "no-tty", false, "give the command no terminal")
	f.StringVar(&x.timeout, "timeout", "", "kill the command after this time, such as 30s or 5m")
	f.StringArrayVar(&x.rlimits, "rlimit", nil, "resource limit of the command, RESOURCE=SOFT[:HARD] (repeatable)")
	exclusive(f, "tty", "no-tty")
}

// interactive decides whether the command gets this terminal.
func (x *execution) interactive(a *app) bool {
	_, in := ui.Terminal(a.In)
	return x.tty || in && !x.noTTY
}

func (x *execution) options() ([]msb.ExecOption, error) {
	var opts []msb.ExecOption
	if err := parsed("timeout", x.timeout, flagtype.Seconds, func(d time.Duration) { opts = append(opts, msb.WithExecTimeout(d)) }); err != nil {
		return nil, err
	}
	for _, r := range x.rlimits {
		resource, soft, hard, err := flagtype.Rlimit(r)
		if err != nil {
			return nil, err
		}
		opts = append(opts, msb.WithExecRlimit(msb.Rlimit{Resource: resource, Soft: soft, Hard: hard}))
	}
	return opts, nil
}

// execute runs argv with this process's streams and returns its exit code, 255 if a
// signal killed it.
func (a *app) execute(ctx context.Context, sb *msb.Sandbox, x *execution, opts []msb.ExecOption, argv []string) (int, error) {
	if x.interactive(a) {
		code, err := sb.AttachWith(ctx, argv[0], argv[1:], msb.WithAttachExec(opts...), msb.WithAttachDetachKeys(x.detachKeys))
		return code & 0xFF, err
	}
	code, err := a.stream(ctx, sb, opts, argv)
	if sig := a.sig.caught(); err == nil && code < 0 && sig != 0 {
		return exitBySig + int(sig), nil
	}
	return code & 0xFF, err
}

// pipedStdin returns the standard input if there is something to read from it.
func (a *app) pipedStdin() io.Reader {
	f, ok := a.In.(*os.File)
	if !ok {
		return a.In
	}
	st, err := f.Stat()
	if err != nil || st.Mode()&os.ModeCharDevice != 0 {
		return nil // a terminal, /dev/null, or closed
	}
	return f
}

// stream passes the command's input and output on as they come, byte for byte.
func (a *app) stream(ctx context.Context, sb *msb.Sandbox, opts []msb.ExecOption, argv []string) (code int, err error) {
	in := a.pipedStdin()
	if in != nil {
		opts = append(opts[:len(opts):len(opts)], msb.WithExecStdinPipe())
	}
	h, err := sb.ExecStream(ctx, argv[0], argv[1:], opts...)
	if err != nil {
		return 0, err
	}
	defer func() { _ = h.Close() }()
	defer a.sig.passOn(func(sig syscall.Signal) { _ = h.Signal(ctx, int(sig)) })()
	if in != nil {
		feed(ctx, h.TakeStdin(), in)
	}
	code, err = a.output(ctx, h)
	if err != nil {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = h.Kill(end) // nobody reads it any more
	}
	return code, err
}

func (a *app) output(ctx context.Context, h *msb.ExecHandle) (int, error) {
	code := 0
	for {
		e, err := h.Recv(ctx)
		if err != nil {
			return 0, err
		}
		switch e.Kind {
		case msb.ExecEventStdout:
			_, err = a.Out.Write(e.Data)
		case msb.ExecEventStderr:
			_, err = a.Err.Write(e.Data)
		case msb.ExecEventExited:
			code = e.ExitCode
		case msb.ExecEventDone:
			return code, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// feed copies in to the command's standard input in the background; the command's end
// ends it.
func feed(ctx context.Context, sink *msb.ExecSink, in io.Reader) {
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := in.Read(buf)
			if n > 0 {
				if _, werr := sink.WriteCtx(ctx, buf[:n]); werr != nil {
					return
				}
			}
			if err != nil {
				_ = sink.Close()
				return
			}
		}
	}()
}

// session is a sandbox that this invocation is connected to.
type session struct {
	*msb.Sandbox
	started bool // by this invocation, which stops it again
}

// connect connects to a running sandbox and starts a stopped one for the time being.
func connect(ctx context.Context, h *msb.SandboxHandle) (*session, error) {
	if h.Live() {
		sb, err := h.Connect(ctx)
		return &session{Sandbox: sb}, err
	}
	sb, err := h.Start(ctx)
	return &session{Sandbox: sb, started: true}, err
}

// stopGrace is how long a sandbox may take to stop after its command has ended or was
// interrupted.
const stopGrace = 10 * time.Second

// finish releases the sandbox after a command, and stops it if this invocation started
// it, also after an interrupt. Somebody who detached wants it to go on.
func (s *session) finish(ctx context.Context, a *app, code int, err error) error {
	if errors.Is(err, msb.ErrDetached) {
		ui.Done(a.Err, "Detached", s.Name(), 0)
		return s.Detach(ctx)
	}
	if s.started {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace+5*time.Second)
		defer cancel()
		stopErr := s.Stop(end, msb.WithStopTimeout(stopGrace))
		if err == nil {
			err = stopErr
		}
	}
	if closeErr := s.Close(); err == nil {
		err = closeErr
	}
	switch {
	case msb.IsKind(err, msb.ErrSandboxNotRunning):
		return lost{s.Name(), err}
	case err == nil && code != 0:
		return exitStatus(code)
	}
	return err
}

// lost is the error of a command whose sandbox ended before it did.
type lost struct {
	name  string
	cause error
}

func (l lost) Error() string { return "sandbox " + l.name + " ended while a command ran in it" }

func (l lost) Unwrap() error { return l.cause }

// defaultCommand is the sandbox's own command, or a shell where there is none and a
// person to use it. It is empty where there is neither.
func (a *app) defaultCommand(sb *msb.Sandbox, x *execution) ([]string, error) {
	argv, err := sb.DefaultCommand()
	switch {
	case !msb.IsKind(err, msb.ErrNoDefaultCommand):
		return argv, err
	case x.interactive(a):
		return []string{sb.DefaultShell()}, nil
	}
	ui.Warn(a.Err, "no command provided and stdin is not a terminal")
	return nil, nil
}
