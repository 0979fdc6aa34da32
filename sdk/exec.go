package microsandbox

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// ExecOption changes how one command runs.
type ExecOption func(*ExecConfig)

// ExecConfig is what ExecOptions set. The zero value of a field means its default.
type ExecConfig struct {
	Cwd       string
	Timeout   time.Duration // 0: none
	StdinPipe bool
	TTY       bool
	User      string
	Env       map[string]string
	Rlimits   []Rlimit
	Stdin     io.Reader // nil: see StdinPipe
	Stdout    io.Writer // nil: what Collect returns
	Stderr    io.Writer // likewise

	rows, cols uint16
}

// WithExecCwd sets the working directory; "" keeps the sandbox's.
func WithExecCwd(dir string) ExecOption { return func(c *ExecConfig) { c.Cwd = dir } }

// WithExecUser sets the user; "" keeps the sandbox's.
func WithExecUser(user string) ExecOption { return func(c *ExecConfig) { c.User = user } }

// WithExecEnv adds variables over those of the sandbox.
func WithExecEnv(env map[string]string) ExecOption {
	return func(c *ExecConfig) {
		for k, v := range env {
			if c.Env == nil {
				c.Env = map[string]string{}
			}
			c.Env[k] = v
		}
	}
}

// WithExecTimeout kills the command after d, rounded up to seconds; 0 or less is never.
func WithExecTimeout(d time.Duration) ExecOption {
	return func(c *ExecConfig) { c.Timeout = time.Duration(value(wholeSeconds(d))) * time.Second }
}

// WithExecStdinPipe gives the command an input that TakeStdin returns; otherwise its
// input is empty.
func WithExecStdinPipe() ExecOption { return func(c *ExecConfig) { c.StdinPipe = true } }

// WithExecTTY gives the command a terminal, which merges stderr into stdout.
func WithExecTTY(on bool) ExecOption { return func(c *ExecConfig) { c.TTY = on } }

// WithExecRlimit adds a resource limit for the command.
func WithExecRlimit(r Rlimit) ExecOption {
	return func(c *ExecConfig) { c.Rlimits = append(c.Rlimits, r) }
}

// WithExecStdin has the command read what r gives, to its end. The command's own end does
// not end a Read that is under way.
func WithExecStdin(r io.Reader) ExecOption { return func(c *ExecConfig) { c.Stdin = r } }

// WithExecStdout has Exec, Collect and Wait write the command's output to w as it comes,
// instead of keeping it. A write that fails ends them with that error.
func WithExecStdout(w io.Writer) ExecOption { return func(c *ExecConfig) { c.Stdout = w } }

// WithExecStderr is WithExecStdout for the standard error.
func WithExecStderr(w io.Writer) ExecOption { return func(c *ExecConfig) { c.Stderr = w } }

func withExecSize(rows, cols uint16) ExecOption {
	return func(c *ExecConfig) { c.rows, c.cols = rows, cols }
}

func execOptions(opts []ExecOption) *ExecConfig {
	c := &ExecConfig{}
	for _, o := range opts {
		o(c)
	}
	return c
}

func (c *ExecConfig) validate(cmd string, args []string) error {
	switch {
	case cmd == "":
		return fail(ErrInvalidArgument, "no command to run")
	case strings.ContainsRune(cmd, 0) || strings.Contains(strings.Join(args, ""), "\x00"):
		return fail(ErrInvalidArgument, "a command must not contain NUL")
	}
	if err := checkEnv(c.Env); err != nil {
		return err
	}
	for _, r := range c.Rlimits {
		if err := r.validate(); err != nil {
			return err
		}
	}
	return nil
}

func (c *ExecConfig) command(cmd string, args []string) client.Command {
	out := client.Command{Name: cmd, Args: args, Dir: c.Cwd, User: c.User, TTY: c.TTY, Rows: c.rows, Cols: c.cols}
	for _, k := range sortedKeys(c.Env) {
		out.Env = append(out.Env, k+"="+c.Env[k])
	}
	for _, r := range c.Rlimits {
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
	if cfg.Stdin != nil {
		go h.feed(cfg.Stdin)
	} else if !cfg.StdinPipe && !cfg.TTY {
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
	var refusal *client.RemoteError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &guestFile):
		kind := ErrFilesystem
		if errors.Is(err, fs.ErrNotExist) {
			kind = ErrPathNotFound
		}
		return &Error{Kind: kind, Message: "sandbox fs error", Cause: err}
	case errors.As(err, &refusal) && refusal.Kind == client.KindPaused:
		return fail(ErrSandboxPaused, "%s", refusal.Message)
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
