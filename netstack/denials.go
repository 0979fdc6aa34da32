package netstack

import (
	"log/slog"
	"sync"
	"time"

	"github.com/gomsb/gomsb/netstack/policy"
)

const (
	// denialBurst lines are logged at once, and one each denialInterval after that: the
	// guest can cause as many as it likes.
	denialBurst    = 50
	denialInterval = time.Second
)

// denials logs what the policy refused.
type denials struct {
	log *slog.Logger

	mu      sync.Mutex
	left    int
	last    time.Time // when left was topped up
	skipped int       // since the last line
}

func newDenials(log *slog.Logger) *denials {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &denials{log: log, left: denialBurst, last: time.Now()}
}

// line reports whether there may be one more, and how many were left out before it.
func (d *denials) line() (skipped int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := int(time.Since(d.last) / denialInterval); n > 0 {
		d.left = min(d.left+n, denialBurst)
		d.last = time.Now()
	}
	if d.left == 0 {
		d.skipped++
		return 0, false
	}
	d.left--
	skipped, d.skipped = d.skipped, 0
	return skipped, true
}

func (d *denials) egress(f policy.Flow, by policy.Decision, name string) {
	d.write("the policy let no connection out", by, "protocol", string(f.Protocol), "to", f.Addr, "port", f.Port, "name", name)
}

func (d *denials) ingress(f policy.Flow, by policy.Decision) {
	d.write("the policy let no connection in", by, "protocol", string(f.Protocol), "from", f.Addr, "port", f.Port)
}

func (d *denials) write(text string, by policy.Decision, args ...any) {
	if skipped, ok := d.line(); ok {
		d.log.Info(text, append(args, "decision", by.String(), "not_logged", skipped)...)
	}
}

// warn logs a failure, within the same bound.
func (d *denials) warn(text string, args ...any) {
	if skipped, ok := d.line(); ok {
		d.log.Warn(text, append(args, "not_logged", skipped)...)
	}
}
