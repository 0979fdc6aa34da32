package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/flagtype"
	msb "github.com/gomsb/gomsb/sdk"
)

type logFlags struct {
	tail                 uint64
	since, until         string
	follow, stamps       bool
	sources              []string
	grep                 string
	asJSON, showID       bool
	none                 bool // --tail 0
	color                string
	noColor, colorBySess bool
	pattern              *regexp.Regexp
}

func (a *app) logsCmd() *cobra.Command {
	l := &logFlags{}
	cmd := &cobra.Command{
		Use: "logs <NAME>", Short: "Show what commands and the system printed",
		RunE: func(cmd *cobra.Command, args []string) error {
			l.none = cmd.Flags().Changed("tail") && l.tail == 0
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
	f.BoolVar(&l.stamps, "timestamps", false, "begin each entry with its time and a tab")
	f.StringArrayVar(&l.sources, "source", nil, "stdout, stderr, output, system or all, separated by commas (repeatable; default all but system)")
	f.StringVar(&l.grep, "grep", "", "only entries that match this regular expression")
	f.BoolVar(&l.asJSON, "json", false, "print JSON Lines")
	f.StringVar(&l.color, "color", "auto", "whether colours of commands are kept: always, never, or auto, for a terminal")
	f.BoolVar(&l.noColor, "no-color", false, "the same as --color never")
	f.BoolVar(&l.showID, "show-id", false, "begin each line with its session")
	f.BoolVar(&l.colorBySess, "color-sessions", false, "the same, with a colour for each session")
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
		a.printBootFailure(l, name, f)
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
	if (tail > 0 || l.none) && uint64(len(entries)) > tail {
		entries = entries[uint64(len(entries))-tail:]
	}
	p := l.printer(a)
	for _, e := range entries {
		p.print(e)
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
		p.print(*e)
	}
}
