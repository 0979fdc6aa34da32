package ui

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// Streams are the command's standard streams. Tests replace them.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Terminal returns the descriptor of s if it is a terminal.
func Terminal(s any) (fd int, ok bool) {
	f, isFile := s.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	return int(f.Fd()), true
}

func colour(w io.Writer, code, text string) string {
	if _, ok := Terminal(w); !ok || os.Getenv("NO_COLOR") != "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Dim renders text as less important where w is a terminal.
func Dim(w io.Writer, text string) string { return colour(w, "2", text) }

// Warn prints a warning with optional further lines.
func Warn(w io.Writer, msg string, more ...string) { message(w, "1;33", "warn:", msg, more) }

// Error prints an error with optional cause and hint lines.
func Error(w io.Writer, msg string, more ...string) { message(w, "1;31", "error:", msg, more) }

func message(w io.Writer, code, prefix, msg string, more []string) {
	fmt.Fprintf(w, "%s %s\n", colour(w, code, prefix), Plain(msg))
	for _, m := range more {
		fmt.Fprintf(w, "  → %s\n", Plain(m))
	}
}

// Done prints the tick line of a finished action; took is shown above half a second.
func Done(w io.Writer, verb, target string, took time.Duration) {
	line := fmt.Sprintf("   %s %-12s %s", colour(w, "32", "✓"), verb, Plain(target))
	if took > 500*time.Millisecond {
		line += fmt.Sprintf(" (%s)", Short(took))
	}
	fmt.Fprintln(w, line)
}

// Short renders a duration with one decimal.
func Short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// Plain makes text that came from a guest or an image harmless to a terminal: control
// characters but newline and tab become visible escapes.
func Plain(s string) string {
	safe := func(r rune) bool {
		return r == '\n' || r == '\t' || (r >= 0x20 && r != 0x7f && (r < 0x80 || r > 0x9f) && r != utf8.RuneError)
	}
	if strings.IndexFunc(s, func(r rune) bool { return !safe(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if safe(r) || r == utf8.RuneError {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\x%02x", r)
		}
	}
	return b.String()
}

// Table prints rows under upper-case headers, in columns padded with spaces.
func Table(w io.Writer, headers []string, rows [][]string) {
	const gap = 4 // spaces between columns
	width := make([]int, len(headers))
	for i, h := range headers {
		width[i] = utf8.RuneCountInString(h)
	}
	clean := make([][]string, len(rows))
	for r, row := range rows {
		clean[r] = make([]string, len(headers))
		for i := range headers {
			if i < len(row) {
				clean[r][i] = strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(Plain(row[i]))
			}
			width[i] = max(width[i], utf8.RuneCountInString(clean[r][i]))
		}
	}
	for r, row := range append([][]string{headers}, clean...) {
		var line strings.Builder
		for i, cell := range row {
			text := cell
			if r > 0 && (headers[i] == "STATUS" || headers[i] == "STATE") {
				text = Status(w, cell)
			}
			line.WriteString(text)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)+gap))
			}
		}
		text := strings.TrimRight(line.String(), " ")
		if r == 0 {
			text = colour(w, "1;36", text)
		}
		fmt.Fprintln(w, text)
	}
}

// statusColours are SGR codes of the states of a sandbox.
var statusColours = map[string]string{
	"running": "1;32", "stopped": "2", "exited": "2", "crashed": "1;31", "stalled": "1;33", "starting": "1;33", "draining": "1;33", "paused": "1;33",
}

// Status renders the state of a sandbox in its colour where w is a terminal.
func Status(w io.Writer, state string) string {
	if code, ok := statusColours[state]; ok {
		return colour(w, code, state)
	}
	return state
}

// Key renders the name of a value as in the lines of inspect: in its colour where w is a terminal.
func Key(w io.Writer, text string) string { return colour(w, "36", text) }

// Title renders the title of a section, bold where w is a terminal.
func Title(w io.Writer, text string) string { return colour(w, "1", text) }

// Clip shortens s to n characters, the last three of which are dots if it was cut and n leaves room for more.
func Clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	if n <= 3 {
		return string([]rune(s)[:n])
	}
	return string([]rune(s)[:n-3]) + "..."
}

// Time renders a time for tables, "-" if it is unknown.
func Time(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// Size renders a number of bytes with a binary unit.
func Size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n), -1
	for f >= unit && i < 4 {
		f /= unit
		i++
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[i])
}
