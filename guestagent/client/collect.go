package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// Output is what a command left behind. Code is 0-255, or -1 if a signal ended it.
type Output struct {
	Stdout []byte
	Stderr []byte
	Code   int
}

// ExecCollect runs a command to its end with stdin as its input (nil: none) and returns
// its output. If ctx ends first, the command is killed and ctx's error returned. More
// than Options.MaxCollect bytes of output kill the command and return [ErrTooLarge].
// stdin must not block for ever: its reader is left to finish when the command exits
// before it.
func (c *Client) ExecCollect(ctx context.Context, cmd Command, stdin io.Reader) (*Output, error) {
	e, err := c.Exec(ctx, cmd)
	if err != nil {
		return nil, err
	}
	feedCtx, stop := context.WithCancel(ctx)
	fed := make(chan error, 1)
	go func() {
		defer close(fed)
		// The error is there before the command can see the end and exit.
		fed <- e.feed(feedCtx, stdin)
		_ = e.CloseStdin(feedCtx) // fails only with the session, whose reader reports it
	}()

	out, err := e.collect(ctx, c.opts.MaxCollect)
	stop()
	if err != nil {
		e.Close()
		_ = c.goodbye(e.Kill) // best effort; the caller's error is the one to report
		return nil, err
	}
	if stdin == nil {
		for range fed { // stop has made sure that this ends
		}
		return out, nil
	}
	select {
	case err := <-fed:
		if err != nil {
			return out, fmt.Errorf("input of the command: %w", err)
		}
	default: // still reading stdin; the command has exited without it
	}
	return out, nil
}

// feed sends all of stdin and returns what stdin failed with: the command has then seen
// less than it should. That the command does not want its input is no error.
func (e *Exec) feed(ctx context.Context, stdin io.Reader) error {
	if stdin == nil {
		return nil
	}
	buf := make([]byte, stdinChunk)
	for {
		n, err := stdin.Read(buf)
		if _, werr := e.WriteContext(ctx, buf[:n]); werr != nil {
			return nil
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (e *Exec) collect(ctx context.Context, limit int64) (*Output, error) {
	var stdout, stderr bytes.Buffer
	budget := limit
	code, err := e.Copy(ctx, bounded{&stdout, &budget}, bounded{&stderr, &budget})
	if err != nil {
		return nil, err
	}
	return &Output{Stdout: stdout.Bytes(), Stderr: stderr.Bytes(), Code: code}, nil
}

// bounded is a writer into memory with a budget that it may share with others.
type bounded struct {
	to     *bytes.Buffer
	budget *int64
}

func (b bounded) Write(p []byte) (int, error) {
	if int64(len(p)) > *b.budget {
		return 0, ErrTooLarge
	}
	*b.budget -= int64(len(p))
	return b.to.Write(p)
}
