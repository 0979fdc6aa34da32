package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/flagtype"
	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

type logFlags struct {
	tail                 uint64
	since, until         string
	follow, stamps       bool
	sources              []string
	grep                 string
	asJSON, showID       bool
	color                string
	noColor, colorBySess bool
	pattern              *regexp.Regexp
}

func (a *app) logsCmd() *cobra.Command {
	l := &logFlags{}
	cmd := &cobra.Command{
		Use: "logs <NAME>", Short: "Show what commands and the system printed",
		RunE: func(cmd *cobra.Command, args []string) error {
			err := a.logs(cmd.Context(), l, args[0])
			if errors.Is(err, context.Canceled) && l.follow {
				return nil // Ctrl-C is how following ends
			}
			return err
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&l.tail, "tail", 0, "only the last N entries")
	f.StringVar(&l.since, "since", "", "only entries from this time on, RFC 3339 or such as 5m")
	f.StringVar(&l.until, "until", "", "only entries up to this time")
	f.BoolVarP(&l.follow, "follow", "f", false, "wait for more until the sandbox stops")
	f.BoolVar(&l.stamps, "timestamps", false, "begin each line with its time")
	f.StringArrayVar(&l.sources, "source", nil, "stdout, stderr, output, system or all, separated by commas (repeatable; default all but system)")
	f.StringVar(&l.grep, "grep", "", "only entries that match this regular expression")
	f.BoolVar(&l.asJSON, "json", false, "print JSON Lines")
	f.StringVar(&l.color, "color", "auto", "auto, always or never")
	f.BoolVar(&l.noColor, "no-color", false, "the same as --color never")
	f.BoolVar(&l.showID, "show-id", false, "begin each line with its session")
	f.BoolVar(&l.colorBySess, "color-sessions", false, "one colour for each session")
	exclusive(f, "color", "no-color")
	return cmd
}

func (l *logFlags) options(now time.Time) (o msb.LogOptions, err error) {
	o.Tail = l.tail
	for _, s := range strings.Split(strings.Join(l.sources, ","), ",") {
		switch src := msb.LogSource(s); src {
		case "":
		case "all":
			o.Sources = append(o.Sources, msb.LogSourceStdout, msb.LogSourceStderr, msb.LogSourceOutput, msb.LogSourceSystem)
		case msb.LogSourceStdout, msb.LogSourceStderr, msb.LogSourceOutput, msb.LogSourceSystem:
			o.Sources = append(o.Sources, src)
		default:
			return o, badValue(s, withValue("source"), choice{"stdout", "stderr", "output", "system", "all"})
		}
	}
	if l.since != "" {
		if o.Since, err = flagtype.LogTime(l.since, now); err != nil {
			return o, err
		}
	}
	if l.until != "" {
		if o.Until, err = flagtype.LogTime(l.until, now); err != nil {
			return o, err
		}
	}
	if l.color != "auto" && l.color != "always" && l.color != "never" {
		return o, badValue(l.color, withValue("color"), choice{"auto", "always", "never"})
	}
	if l.grep != "" {
		if l.pattern, err = regexp.Compile(l.grep); err != nil {
			return o, fmt.Errorf("invalid value '%s' for '--grep': %w", l.grep, err)
		}
	}
	return o, nil
}

func (a *app) logs(ctx context.Context, l *logFlags, name string) error {
	o, err := l.options(time.Now())
	if err != nil {
		return err
	}
	h, err := msb.GetSandbox(ctx, name)
	if err != nil {
		return err
	}
	if f := h.BootFailure(); f != nil {
		a.printBootFailure(l, f)
	}
	tail := o.Tail
	if l.follow {
		o.Tail = 0 // the place to go on from is after all that there is
	}
	entries, err := h.Logs(ctx, o)
	if err != nil {
		return err
	}
	var last string
	for _, e := range entries {
		if e.Cursor != "" {
			last = e.Cursor
		}
	}
	if tail > 0 && uint64(len(entries)) > tail {
		entries = entries[uint64(len(entries))-tail:]
	}
	for _, e := range entries {
		a.printEntry(l, e)
	}
	if !l.follow {
		return nil
	}
	more := msb.LogStreamOptions{Sources: o.Sources, FromCursor: last, Until: o.Until, Follow: true}
	if last == "" {
		more.Since = o.Since
		if n := len(entries); n > 0 { // system logs have no cursors
			more.Since = entries[n-1].Timestamp.Add(1)
		}
	}
	s, err := h.LogStream(ctx, more)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	// The end of the sandbox is the end of its logs.
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		if _, err := h.WaitUntilStopped(ctx); err == nil {
			s.Finish()
		}
	})
	for {
		e, err := s.Recv(ctx)
		if err != nil || e == nil {
			return err
		}
		a.printEntry(l, *e)
	}
}

func (a *app) printBootFailure(l *logFlags, f *msb.BootFailure) {
	if l.asJSON {
		a.printLine(map[string]any{"t": f.Time, "s": "boot-error", "d": map[string]any{"stage": f.Stage, "errno": f.Errno, "message": f.Message}})
		return
	}
	fmt.Fprintf(a.Out, "boot failed at stage %s: %s\n", f.Stage, ui.Plain(f.Message))
}

// printLine prints one of the JSON Lines.
func (a *app) printLine(v any) {
	e := json.NewEncoder(a.Out)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // nothing in it can fail but the writing
}

func (a *app) printEntry(l *logFlags, e msb.LogEntry) {
	if l.pattern != nil && !l.pattern.Match(e.Data) {
		return
	}
	if l.asJSON {
		type line struct {
			D  string  `json:"d"`
			E  *string `json:"e"`
			ID *uint64 `json:"id"`
			S  string  `json:"s"`
			T  string  `json:"t"`
		}
		out := line{T: e.Timestamp.Format(time.RFC3339Nano), S: string(e.Source), D: e.Text(), ID: e.SessionID}
		if !utf8.Valid(e.Data) {
			enc := "b64"
			out.E, out.D = &enc, base64.StdEncoding.EncodeToString(e.Data)
		}
		a.printLine(out)
		return
	}
	text := e.Text()
	if e.Source == msb.LogSourceSystem {
		text = ui.Plain(strings.ReplaceAll(text, "\r\n", "\n")) // a guest's console, shown to somebody who diagnoses it
	}
	prefix := ""
	if l.stamps {
		prefix = e.Timestamp.Format("2006-01-02T15:04:05.000Z07:00") + " "
	}
	if l.showID && e.SessionID != nil {
		prefix += fmt.Sprintf("[%d] ", *e.SessionID)
	}
	if prefix == "" {
		fmt.Fprint(a.Out, l.paint(a, e, text))
		return
	}
	for line := range strings.Lines(text) { // one entry may have several, and lack the last end
		fmt.Fprintln(a.Out, prefix+l.paint(a, e, strings.TrimSuffix(line, "\n")))
	}
}

func (l *logFlags) coloured(a *app) bool {
	if l.noColor || l.color == "never" {
		return false
	}
	if l.color == "always" {
		return true
	}
	_, tty := ui.Terminal(a.Out)
	return tty && os.Getenv("NO_COLOR") == ""
}

// paint colours the text of an entry, if colours are wanted.
func (l *logFlags) paint(a *app, e msb.LogEntry, text string) string {
	code := 0
	switch {
	case !l.coloured(a):
	case l.colorBySess && e.SessionID != nil:
		code = 31 + int(*e.SessionID%6)
	case e.Source == msb.LogSourceStderr:
		code = 31
	case e.Source == msb.LogSourceSystem:
		code = 90
	}
	if code == 0 {
		return text
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", code, text)
}
