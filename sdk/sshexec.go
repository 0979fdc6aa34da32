//go:build unix

package microsandbox

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"golang.org/x/crypto/ssh"
)

// SSHExecOption changes one command.
type SSHExecOption func(*sshExecConfig)

type sshExecConfig struct{ tty bool }

// WithSSHTTY gives the command a terminal of 24 by 80, which merges stderr into stdout.
func WithSSHTTY(on bool) SSHExecOption { return func(c *sshExecConfig) { c.tty = on } }

// SSHOutput is what a command printed and how it ended.
type SSHOutput struct {
	Status         int // 0 to 255; 255 if a signal ended the command
	Stdout, Stderr []byte
}

// Success reports status 0.
func (o *SSHOutput) Success() bool { return o.Status == 0 }

// Exec runs a command line with the sandbox's shell to its end, at most 1 GiB of output.
// A status other than 0 is not an error.
func (c *SSHClient) Exec(ctx context.Context, cmd string, opts ...SSHExecOption) (*SSHOutput, error) {
	var out, errOut bytes.Buffer
	left := &outputLimit{left: maxCollect}
	status, err := c.Run(ctx, cmd, SSHStreams{Stdout: left.limit(&out), Stderr: left.limit(&errOut)}, opts...)
	if err != nil {
		return nil, err
	}
	return &SSHOutput{Status: status, Stdout: out.Bytes(), Stderr: errOut.Bytes()}, nil
}

// outputLimit bounds what several writers take together, bytes.
type outputLimit struct {
	mu   sync.Mutex
	left int // protected by mu
}

func (l *outputLimit) limit(w io.Writer) io.Writer { return limitedWriter{l, w} }

type limitedWriter struct {
	*outputLimit
	w io.Writer
}

func (w limitedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left -= len(p); w.left < 0 {
		return 0, fail(ErrInternal, "the command printed more than %d MiB: receive its output with Run", maxCollect>>20)
	}
	return w.w.Write(p)
}

// SSHStreams are a command's input and output; nil is empty, or is dropped.
type SSHStreams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Run runs a command line, or the shell if it is empty, and passes its input and output
// on as they come. It returns the status as in SSHOutput.
func (c *SSHClient) Run(ctx context.Context, cmd string, streams SSHStreams, opts ...SSHExecOption) (int, error) {
	var cfg sshExecConfig
	for _, o := range opts {
		o(&cfg)
	}
	s, err := c.client.NewSession()
	if err != nil {
		return 0, c.failure(ctx, err)
	}
	defer func() { _ = s.Close() }()
	s.Stdin, s.Stdout, s.Stderr = streams.Stdin, streams.Stdout, streams.Stderr
	if cfg.tty {
		if err := s.RequestPty(c.term, 24, 80, nil); err != nil {
			return 0, c.failure(ctx, err)
		}
	}
	return c.complete(ctx, s, cmd)
}

// complete starts a command line, or the shell, and waits for its end.
func (c *SSHClient) complete(ctx context.Context, s *ssh.Session, cmd string) (int, error) {
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	start := s.Shell
	if cmd != "" {
		start = func() error { return s.Start(cmd) }
	}
	err := start()
	if err == nil {
		err = s.Wait()
	}
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		return exit.ExitStatus(), nil
	}
	return 0, c.failure(ctx, err)
}

// failure is err unless the end of ctx or of the connection explains it.
func (c *SSHClient) failure(ctx context.Context, err error) error {
	var missing *ssh.ExitMissingError
	switch {
	case ctx.Err() != nil:
		return cancelled(ctx)
	case errors.As(err, &missing), errors.Is(err, io.EOF):
		return &Error{Kind: ErrSandboxNotRunning, Message: "the SSH connection ended", Cause: err}
	}
	return wrap(ErrInternal, err)
}
