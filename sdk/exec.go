package microsandbox

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// ExecOption changes how one command runs.
type ExecOption func(*execConfig)

type execConfig struct {
	cwd, user string
	env       map[string]string
	timeout   time.Duration
	stdin     bool
	tty       bool
	rows      uint16
	cols      uint16
	rlimits   []Rlimit
}

// WithExecCwd sets the working directory; "" keeps the sandbox's.
func WithExecCwd(dir string) ExecOption { return func(c *execConfig) { c.cwd = dir } }

// WithExecUser sets the user; "" keeps the sandbox's.
func WithExecUser(user string) ExecOption { return func(c *execConfig) { c.user = user } }

// WithExecEnv adds variables over those of the sandbox.
func WithExecEnv(env map[string]string) ExecOption {
	return func(c *execConfig) {
		for k, v := range env {
			if c.env == nil {
				c.env = map[string]string{}
			}
			c.env[k] = v
		}
	}
}

// WithExecTimeout kills the command after d, rounded up to seconds; 0 or less is never.
func WithExecTimeout(d time.Duration) ExecOption {
	return func(c *execConfig) { c.timeout = time.Duration(value(wholeSeconds(d))) * time.Second }
}

// WithExecStdinPipe gives the command an input that TakeStdin returns; otherwise its
// input is empty.
func WithExecStdinPipe() ExecOption { return func(c *execConfig) { c.stdin = true } }

// WithExecTTY gives the command a terminal, which merges stderr into stdout.
func WithExecTTY(on bool) ExecOption { return func(c *execConfig) { c.tty = on } }

// WithExecRlimit adds a resource limit for the command.
func WithExecRlimit(r Rlimit) ExecOption {
	return func(c *execConfig) { c.rlimits = append(c.rlimits, r) }
}

func withExecSize(rows, cols uint16) ExecOption {
	return func(c *execConfig) { c.rows, c.cols = rows, cols }
}

func execOptions(opts []ExecOption) *execConfig {
	c := &execConfig{}
	for _, o := range opts {
		o(c)
	}
	return c
}

func (c *execConfig) validate(cmd string, args []string) error {
	switch {
	case cmd == "":
		return fail(ErrInvalidArgument, "no command to run")
	case strings.ContainsRune(cmd, 0) || strings.Contains(strings.Join(args, ""), "\x00"):
		return fail(ErrInvalidArgument, "a command must not contain NUL")
	}
	if err := checkEnv(c.env); err != nil {
		return err
	}
	for _, r := range c.rlimits {
		if err := r.validate(); err != nil {
			return err
		}
	}
	return nil
}

func (c *execConfig) command(cmd string, args []string) client.Command {
	out := client.Command{Name: cmd, Args: args, Dir: c.cwd, User: c.user, TTY: c.tty, Rows: c.rows, Cols: c.cols}
	for _, k := range sortedKeys(c.env) {
		out.Env = append(out.Env, k+"="+c.env[k])
	}
	for _, r := range c.rlimits {
		out.Rlimits = append(out.Rlimits, proto.Rlimit{Resource: r.Resource, Soft: r.Soft, Hard: r.Hard})
	}
	return out
}

// ExecOutput is what a command printed and how it ended.
type ExecOutput struct{ out client.Output }

// Stdout is the standard output as text.
func (o *ExecOutput) Stdout() string { return string(o.out.Stdout) }

// Stderr is the standard error as text.
func (o *ExecOutput) Stderr() string { return string(o.out.Stderr) }

// StdoutBytes is the standard output, byte-exact.
func (o *ExecOutput) StdoutBytes() []byte { return o.out.Stdout }

// StderrBytes is the standard error, byte-exact.
func (o *ExecOutput) StderrBytes() []byte { return o.out.Stderr }

// ExitCode is 0 to 255, or -1 if a signal ended the command.
func (o *ExecOutput) ExitCode() int { return o.out.Code }

// Success reports exit code 0.
func (o *ExecOutput) Success() bool { return o.out.Code == 0 }

// ExecFailure says why a command never started, or what became of its input.
type ExecFailure struct {
	Kind      string // not_found, permission_denied, not_executable, bad_cwd, ...
	Errno     *int   // Linux error number
	ErrnoName string
	Message   string
	Path      string // of the program, if the guest named it
	Command   string // what was asked for
}

// Error is the guest's message.
func (f *ExecFailure) Error() string { return "exec failed: " + f.Message }

// Exec runs a command to its end. A code other than 0 is not an error; a command that
// cannot start is one that wraps *ExecFailure, a timeout one of kind ErrExecTimeout.
func (s *Sandbox) Exec(ctx context.Context, cmd string, args []string, opts ...ExecOption) (*ExecOutput, error) {
	h, err := s.ExecStream(ctx, cmd, args, opts...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = h.Close() }()
	out, err := h.Collect(ctx)
	if err != nil {
		h.giveUp()
		return nil, err
	}
	return out, nil
}

// Shell runs a script with the sandbox's shell.
func (s *Sandbox) Shell(ctx context.Context, script string, opts ...ExecOption) (*ExecOutput, error) {
	return s.Exec(ctx, s.DefaultShell(), []string{"-c", script}, opts...)
}

// ShellStream starts a script with the sandbox's shell.
func (s *Sandbox) ShellStream(ctx context.Context, script string, opts ...ExecOption) (*ExecHandle, error) {
	return s.ExecStream(ctx, s.DefaultShell(), []string{"-c", script}, opts...)
}

// ExecStream starts a command. The context covers only the start.
func (s *Sandbox) ExecStream(ctx context.Context, cmd string, args []string, opts ...ExecOption) (*ExecHandle, error) {
	cfg := execOptions(opts)
	if err := cfg.validate(cmd, args); err != nil {
		return nil, err
	}
	c, err := s.agent()
	if err != nil {
		return nil, err
	}
	e, err := c.Exec(ctx, cfg.command(cmd, args))
	if err != nil {
		return nil, execError(cmd, err)
	}
	h := newExecHandle(e, cfg)
	if !cfg.stdin && !cfg.tty {
		// Nobody will write: the command sees the end of its input at once.
		if err := e.CloseStdin(ctx); err != nil {
			_ = h.Close()
			return nil, execError(cmd, err)
		}
	}
	return h, nil
}

// ExecDefault runs the sandbox's own ENTRYPOINT and CMD.
func (s *Sandbox) ExecDefault(ctx context.Context, opts ...ExecOption) (*ExecOutput, error) {
	argv, err := s.DefaultCommand()
	if err != nil {
		return nil, err
	}
	return s.Exec(ctx, argv[0], argv[1:], opts...)
}

// ExecDefaultStream starts the sandbox's own ENTRYPOINT and CMD.
func (s *Sandbox) ExecDefaultStream(ctx context.Context, opts ...ExecOption) (*ExecHandle, error) {
	argv, err := s.DefaultCommand()
	if err != nil {
		return nil, err
	}
	return s.ExecStream(ctx, argv[0], argv[1:], opts...)
}

// execError gives a failed start its kind.
func execError(cmd string, err error) error {
	var e *client.ExecError
	if !errors.As(err, &e) {
		return agentError(err)
	}
	f := &ExecFailure{Kind: string(e.Kind), ErrnoName: e.ErrnoName, Message: e.Message, Command: cmd}
	if e.Errno != 0 {
		f.Errno = &e.Errno
	}
	return &Error{Kind: ErrExecFailed, Cause: f}
}

// agentError gives an error of the agent connection, or of a host file that was copied
// over it, its kind.
func agentError(err error) error {
	var guestFile *client.FSError
	var hostFile *fs.PathError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &guestFile):
		kind := ErrFilesystem
		if errors.Is(err, fs.ErrNotExist) {
			kind = ErrPathNotFound
		}
		return &Error{Kind: kind, Message: "sandbox fs error", Cause: err}
	case errors.As(err, &hostFile):
		return wrap(ErrIO, err)
	case errors.Is(err, client.ErrTooOld):
		return wrap(ErrUnsupportedOperation, err)
	case errors.Is(err, client.ErrDisconnected):
		return wrap(ErrSandboxNotRunning, err)
	case errors.Is(err, client.ErrClosed):
		return wrap(ErrInvalidHandle, err)
	}
	return wrap(ErrInternal, err)
}
