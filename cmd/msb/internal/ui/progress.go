package ui

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// redraw is the shortest time between two drawings of a progress line.
const redraw = 80 * time.Millisecond

// Progress is one line of a terminal that is drawn again and again. On anything else it
// draws nothing. It is safe for concurrent use.
type Progress struct {
	w     io.Writer
	width func() int
	now   func() time.Time

	mu    sync.Mutex // guards what follows
	drawn bool
	last  time.Time
	ticks int
}

// NewProgress returns a progress line on w.
func NewProgress(w io.Writer) *Progress {
	fd, ok := Terminal(w)
	if !ok {
		return &Progress{}
	}
	return &Progress{w: w, now: time.Now, width: func() int {
		columns, _, err := term.GetSize(fd)
		if err != nil || columns <= 0 {
			return 80
		}
		return columns
	}}
}

var spinner = []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")

// Draw shows what is going on: a verb, its target and, unless total is 0, how much of it
// is done in bytes. A line that comes too soon after another is left out.
func (p *Progress) Draw(verb, target string, done, total int64) {
	if p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.drawn && now.Sub(p.last) < redraw {
		return
	}
	p.drawn, p.last = true, now
	p.ticks++
	line := fmt.Sprintf("   %c %-12s %s", spinner[p.ticks%len(spinner)], verb, Plain(target))
	if total > 0 {
		done = min(done, total)
		amount := fmt.Sprintf(" %s/%s", Size(done), Size(total))
		if room := p.width() - 1 - utf8.RuneCountInString(line+amount) - 3; room >= 10 {
			bar := min(room, 40)
			full := int(int64(bar) * done / total)
			line += " " + strings.Repeat("━", full) + strings.Repeat("╌", bar-full)
		}
		line += amount
	}
	fmt.Fprint(p.w, "\r\x1b[2K"+Clip(line, max(p.width()-1, 1)))
}

// Clear removes the line.
func (p *Progress) Clear() {
	if p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[2K")
		p.drawn = false
	}
}

// Failed prints the line of an action that failed; the error follows.
func Failed(w io.Writer, verb, target string) {
	fmt.Fprintf(w, "   %s %-12s %s\n", colour(w, "31", "✗"), verb, Plain(target))
}
