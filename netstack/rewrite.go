package netstack

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/gomsb/gomsb/netstack/secrets"
)

// rewriter is what the guest's bytes pass through on their way to the server; nil if they
// go as they are.
func (g *Gateway) rewriter(c secrets.Connection) secrets.Rewriter {
	if g.secrets == nil {
		return nil
	}
	return g.secrets(c)
}

// substituted writes what the guest sends on to the server, through a rewriter. Its errors
// are w's or the rewriter's; after one, nothing more is written.
type substituted struct {
	w  io.Writer
	rw secrets.Rewriter
}

func (s substituted) Write(p []byte) (int, error) {
	err := s.send(func(dst []byte) ([]byte, error) { return s.rw.Rewrite(dst, p) })
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// end writes what comes before the end of the stream.
func (s substituted) end() error { return s.send(s.rw.End) }

// close forgets all that is held.
func (s substituted) close() { s.rw.Close() }

// send writes what f appends.
func (s substituted) send(f func(dst []byte) ([]byte, error)) error {
	b := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(b)
	out, err := f(b[:0])
	if err == nil && len(out) > 0 {
		_, err = s.w.Write(out)
	}
	if clear(out); cap(out) != len(b) { // values of secrets may be in it, and in b
		clear(b[:])
	}
	return err
}

// refused logs why a rewriter ended a connection, and ends the sandbox if a violation is
// to have that consequence. It reports whether err was of a rewriter at all.
func (g *Gateway) refused(c secrets.Connection, err error) bool {
	var v *secrets.Violation
	var m *secrets.Malformed
	switch {
	case errors.As(err, &v):
		g.violated(v)
	case errors.As(err, &m) && c.Strict:
		g.account.denied.Add(1)
		g.log.Info("strict mode refused a request", "reason", m.Reason, "to", c.Dst, "host", c.Host)
	case errors.As(err, &m):
		g.log.Info("a request cannot be carried with secrets", "reason", m.Reason, "to", c.Dst, "host", c.Host)
	default:
		return false
	}
	return true
}

func (g *Gateway) violated(v *secrets.Violation) {
	switch v.Action {
	case secrets.KindLog:
		g.log.LogAttrs(context.Background(), slog.LevelWarn, secrets.Message, v.LogValue().Group()...)
	case secrets.KindTerminate:
		g.log.LogAttrs(context.Background(), slog.LevelError, secrets.Message, v.LogValue().Group()...)
		if g.terminate != nil {
			go g.terminate()
		}
	}
}
