//go:build unix

package microsandbox

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
)

// SSHAttachOption changes an interactive session.
type SSHAttachOption func(*sshAttachConfig)

type sshAttachConfig struct{ term, detachKeys string }

// WithSSHAttachTerm sets the type of the terminal, by default the client's.
func WithSSHAttachTerm(term string) SSHAttachOption {
	return func(c *sshAttachConfig) { c.term = term }
}

// WithSSHDetachKeys sets the keys that end the session, as WithAttachDetachKeys has them.
func WithSSHDetachKeys(keys string) SSHAttachOption {
	return func(c *sshAttachConfig) { c.detachKeys = keys }
}

// Attach runs the sandbox's shell on this process's terminal and returns its exit code.
// Typing the detach keys ends it with an error that wraps ErrDetached.
func (c *SSHClient) Attach(ctx context.Context, opts ...SSHAttachOption) (int, error) {
	return c.attach(ctx, os.Stdin, os.Stdout, opts)
}

func (c *SSHClient) attach(ctx context.Context, in, out *os.File, opts []SSHAttachOption) (int, error) {
	cfg := &sshAttachConfig{term: c.term}
	for _, o := range opts {
		o(cfg)
	}
	keys, err := parseDetachKeys(cfg.detachKeys)
	if err != nil {
		return 0, err
	}
	keyboard, err := newInput(in)
	if err != nil {
		return 0, wrap(ErrIO, err)
	}
	defer keyboard.close()
	s, err := c.client.NewSession()
	if err != nil {
		keyboard.end()
		return 0, c.failure(ctx, err)
	}
	defer func() { _ = s.Close() }()
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	defer keyboard.end()
	rows, cols, _ := windowSize(out, in)
	if err := s.RequestPty(cfg.term, int(rows), int(cols), nil); err != nil {
		return 0, c.failure(ctx, err)
	}
	stdin, err := s.StdinPipe()
	if err != nil {
		return 0, wrap(ErrInternal, err)
	}
	s.Stdout, s.Stderr = out, out
	restore, err := rawTerminal(in)
	if err != nil {
		return 0, err
	}
	defer restore()
	wg.Go(func() {
		followWindow(ctx, []*os.File{out, in}, func(rows, cols uint16) { _ = s.WindowChange(int(rows), int(cols)) })
	})
	wg.Go(func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{stdin}, struct{ io.Reader }{&detachReader{in: keyboard, seq: keys}}, make([]byte, 4096))
		if errors.Is(err, ErrDetached) {
			cancel(err)
			return
		}
		_ = stdin.Close()
	})
	status, err := c.complete(ctx, s, "")
	if errors.Is(context.Cause(ctx), ErrDetached) {
		return 0, &Error{Kind: ErrCancelled, Cause: ErrDetached}
	}
	return status, err
}
