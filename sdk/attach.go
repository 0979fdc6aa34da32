//go:build unix

package microsandbox

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// AttachOption changes an interactive command.
type AttachOption func(*AttachConfig)

// AttachConfig is what AttachOptions set. The zero value of a field means its default.
type AttachConfig struct {
	Cwd, User  string
	Env        map[string]string
	DetachKeys string // a comma separated list of ctrl-X or single characters; "" is ctrl-]

	exec []ExecOption
}

// WithAttachExec passes options for the command on.
func WithAttachExec(opts ...ExecOption) AttachOption {
	return func(c *AttachConfig) { c.exec = append(c.exec, opts...) }
}

// WithAttachCwd sets the working directory.
func WithAttachCwd(dir string) AttachOption { return func(c *AttachConfig) { c.Cwd = dir } }

// WithAttachUser sets the user.
func WithAttachUser(user string) AttachOption { return func(c *AttachConfig) { c.User = user } }

// WithAttachEnv adds variables.
func WithAttachEnv(env map[string]string) AttachOption {
	return func(c *AttachConfig) {
		if c.Env == nil {
			c.Env = map[string]string{}
		}
		maps.Copy(c.Env, env)
	}
}

// WithAttachDetachKeys sets the keys that end the session but not the sandbox: a comma
// separated list of ctrl-X or single characters, by default "ctrl-]".
func WithAttachDetachKeys(keys string) AttachOption {
	return func(c *AttachConfig) { c.DetachKeys = keys }
}

// command is the options for the command, the terminal's name first.
func (c *AttachConfig) command() []ExecOption {
	opts := append([]ExecOption{WithExecEnv(map[string]string{"TERM": terminalName()})}, c.exec...)
	if c.Cwd != "" {
		opts = append(opts, WithExecCwd(c.Cwd))
	}
	if c.User != "" {
		opts = append(opts, WithExecUser(c.User))
	}
	return append(opts, WithExecEnv(c.Env))
}

// Attach runs a command on this process's terminal and returns its exit code.
func (s *Sandbox) Attach(ctx context.Context, cmd string, args ...string) (int, error) {
	return s.AttachWith(ctx, cmd, args)
}

// AttachShell runs the sandbox's shell on this process's terminal.
func (s *Sandbox) AttachShell(ctx context.Context) (int, error) {
	return s.AttachWith(ctx, s.DefaultShell(), nil)
}

// AttachDefault runs the sandbox's own command on this process's terminal.
func (s *Sandbox) AttachDefault(ctx context.Context, opts ...AttachOption) (int, error) {
	argv, err := s.DefaultCommand()
	if err != nil {
		return 0, err
	}
	return s.AttachWith(ctx, argv[0], argv[1:], opts...)
}

// AttachWith is Attach with options. Typing the detach keys ends it with an error that
// wraps ErrDetached; the command then lives until this handle is released, the sandbox
// goes on.
func (s *Sandbox) AttachWith(ctx context.Context, cmd string, args []string, opts ...AttachOption) (int, error) {
	return s.attach(ctx, os.Stdin, os.Stdout, cmd, args, opts)
}

func (s *Sandbox) attach(ctx context.Context, in, out *os.File, cmd string, args []string, opts []AttachOption) (int, error) {
	c := &AttachConfig{}
	for _, o := range opts {
		o(c)
	}
	keys, err := parseDetachKeys(c.DetachKeys)
	if err != nil {
		return 0, err
	}
	keyboard, err := newInput(in)
	if err != nil {
		return 0, wrap(ErrIO, err)
	}
	defer keyboard.close()
	defer keyboard.end()
	rows, cols, _ := windowSize(out, in)
	h, err := s.ExecStream(ctx, cmd, args, append(c.command(), WithExecTTY(true), WithExecStdinPipe(), withExecSize(rows, cols))...)
	if err != nil {
		return 0, err
	}
	defer func() { _ = h.Close() }()
	restore, err := rawTerminal(in)
	if err != nil {
		return 0, err
	}
	defer restore()
	a := &attachment{handle: h, in: keyboard, out: out, files: []*os.File{out, in}, keys: keys}
	return a.run(ctx)
}

// terminalName is the guest's TERM: this process's, where it says anything.
func terminalName() string {
	if name := os.Getenv("TERM"); name != "" && name != "dumb" {
		return name
	}
	return "xterm"
}

// attachment joins a terminal and a command.
type attachment struct {
	handle *ExecHandle
	in     *input
	out    io.Writer
	files  []*os.File // where the window's size is read
	keys   []byte
}

// run moves bytes and window sizes until the command ends or the person detaches.
func (a *attachment) run(ctx context.Context) (int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	defer a.in.end()
	wg.Go(func() {
		followWindow(ctx, a.files, func(rows, cols uint16) { _ = a.handle.Resize(ctx, rows, cols) })
	})
	wg.Go(func() {
		if err := a.keyboard(ctx); errors.Is(err, ErrDetached) {
			cancel(err)
		}
	})
	code := 0
	for {
		e, err := a.handle.Recv(ctx)
		if errors.Is(context.Cause(ctx), ErrDetached) {
			return 0, &Error{Kind: ErrCancelled, Cause: ErrDetached}
		}
		if err != nil {
			return 0, err
		}
		switch e.Kind {
		case ExecEventStdout, ExecEventStderr:
			if _, err := a.out.Write(e.Data); err != nil {
				return 0, wrap(ErrIO, err)
			}
		case ExecEventExited:
			code = e.ExitCode
		case ExecEventDone:
			return code, nil
		}
	}
}

// followWindow reports the size of the terminal among files whenever it changes, until
// ctx ends.
func followWindow(ctx context.Context, files []*os.File, resize func(rows, cols uint16)) {
	winch := make(chan os.Signal, 1)
	signal.Notify(winch, syscall.SIGWINCH)
	defer signal.Stop(winch)
	for {
		select {
		case <-ctx.Done():
			return
		case <-winch:
			if rows, cols, ok := windowSize(files...); ok {
				resize(rows, cols)
			}
		}
	}
}

// endOfInput is what a terminal turns into the end of its reader's input: ctrl-D.
const endOfInput = 4

// keyboard sends what is typed. It returns ErrDetached if that was the detach keys.
func (a *attachment) keyboard(ctx context.Context) error {
	sink := a.handle.TakeStdin()
	in := &detachReader{in: a.in, seq: a.keys}
	buf := make([]byte, 4096)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			if _, werr := sink.WriteCtx(ctx, buf[:n]); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			_, err = sink.WriteCtx(ctx, []byte{endOfInput})
			if err == nil {
				err = io.EOF
			}
		}
		if err != nil {
			return err
		}
	}
}
