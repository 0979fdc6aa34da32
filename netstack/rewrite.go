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
	w   io.Writer
	rw  secrets.Rewriter
	buf []byte // kept between writes as long as it is small
}

func (s *substituted) Write(p []byte) (int, error) {
	out, err := s.rw.Rewrite(s.buf[:0], p)
	if err := s.send(out, err); err != nil {
		return 0, err
	}
	return len(p), nil
}

// close forgets all that is held.
func (s *substituted) close() { s.rw.Close() }

// end writes what comes before the end of the stream.
func (s *substituted) end() error {
	out, err := s.rw.End(s.buf[:0])
	return s.send(out, err)
}

func (s *substituted) send(out []byte, err error) error {
	if err == nil && len(out) > 0 {
		_, err = s.w.Write(out)
	}
	clear(out) // values of secrets may be in it
	if s.buf = out; cap(out) > bufferSize {
		s.buf = nil
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
