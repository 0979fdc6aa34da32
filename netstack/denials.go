package netstack

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/gomsb/gomsb/netstack/policy"
)

const (
	// logBurst lines may come at once, and one each logInterval after that.
	logBurst    = 50
	logInterval = time.Second
)

// Limited is a logger whose lines are bounded in number, for what a guest can cause as
// often as it likes. What was left out is counted on the next line.
func Limited(l *slog.Logger) *slog.Logger {
	return slog.New(limited{l.Handler(), &allowance{left: logBurst, last: time.Now()}})
}

type limited struct {
	slog.Handler
	*allowance
}

// allowance is how many lines may still come.
type allowance struct {
	mu      sync.Mutex
	left    int       // protected by mu, as all below
	last    time.Time // when left was topped up
	skipped int       // since the last line
}

func (a *allowance) take() (skipped int, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := time.Since(a.last) / logInterval; n > 0 {
		a.left = int(min(time.Duration(a.left)+n, logBurst))
		a.last = time.Now()
	}
	if a.left == 0 {
		a.skipped++
		return 0, false
	}
	a.left--
	skipped, a.skipped = a.skipped, 0
	return skipped, true
}

func (h limited) Handle(ctx context.Context, r slog.Record) error {
	skipped, ok := h.take()
	if !ok {
		return nil
	}
	if skipped > 0 {
		r.AddAttrs(slog.Int("lines_left_out", skipped))
	}
	return h.Handler.Handle(ctx, r)
}

func (h limited) WithAttrs(attrs []slog.Attr) slog.Handler {
	return limited{h.Handler.WithAttrs(attrs), h.allowance}
}

func (h limited) WithGroup(name string) slog.Handler {
	return limited{h.Handler.WithGroup(name), h.allowance}
}

// denied logs that the policy let a flow of the guest's not out. name is the server's, if
// it is known.
func (g *Gateway) denied(f policy.Flow, by policy.Decision, name string) {
	g.account.denied.Add(1)
	g.log.Info("the policy let no connection out", "protocol", string(f.Protocol), "to", f.Addr, "port", f.Port, "name", name, "decision", by.String())
}
