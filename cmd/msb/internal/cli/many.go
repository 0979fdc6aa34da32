package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/flagtype"
	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

// targets are the sandboxes that a command names, by name and by label.
type targets struct {
	labels []string
	quiet  bool
}

func (t *targets) flags(cmd *cobra.Command, quietHelp string) {
	cmd.Flags().StringArrayVar(&t.labels, "label", nil, "also every sandbox with this label (KEY=VALUE or KEY); repeat to narrow down")
	cmd.Flags().BoolVarP(&t.quiet, "quiet", "q", false, quietHelp)
}

// resolve returns the names, those given first. An empty result without an error means
// that the labels matched nothing, which was said.
func (t *targets) resolve(ctx context.Context, a *app, names []string) ([]string, error) {
	if len(names) == 0 && len(t.labels) == 0 {
		return nil, lacking("<NAMES>...")
	}
	seen := map[string]bool{}
	var all []string
	add := func(n string) {
		if !seen[n] {
			seen[n] = true
			all = append(all, n)
		}
	}
	for _, n := range names {
		add(n)
	}
	if len(t.labels) > 0 {
		labels, err := parseLabels(t.labels)
		if err != nil {
			return nil, err
		}
		handles, err := listAll(ctx, labels)
		if err != nil {
			return nil, err
		}
		for _, h := range handles {
			add(h.Name())
		}
		if len(all) == 0 && !t.quiet {
			ui.Warn(a.Err, "no sandboxes matched the given labels")
		}
	}
	return all, nil
}

// each runs f on every target, reports each failure, and fails if any did. mute drops
// the reports, not the exit code. Without a verb, f itself says that it is done.
func (t *targets) each(ctx context.Context, a *app, names []string, verb string, mute bool, f func(context.Context, string) error) error {
	all, err := t.resolve(ctx, a, names)
	if err != nil {
		return err
	}
	failed := false
	for _, n := range all {
		begin := time.Now()
		if err := f(ctx, n); err != nil {
			if ctx.Err() != nil {
				return err
			}
			failed = true
			if !mute {
				a.report(err)
			}
			continue
		}
		if !t.quiet && verb != "" {
			ui.Done(a.Err, verb, n, time.Since(begin))
		}
	}
	if failed {
		return exitStatus(exitError)
	}
	return nil
}

func parseLabels(list []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, l := range list {
		k, v, err := flagtype.Label(l)
		if err != nil {
			return nil, err
		}
		labels[k] = v
	}
	return labels, nil
}

// listAll follows the pages of a listing to the end.
func listAll(ctx context.Context, labels map[string]string) ([]*msb.SandboxHandle, error) {
	opts := []msb.SandboxListOption{msb.WithListLimit(500)}
	if len(labels) > 0 {
		opts = append(opts, msb.WithListLabels(labels))
	}
	var all []*msb.SandboxHandle
	var cursor *string
	for {
		o := opts
		if cursor != nil {
			o = append(o[:len(o):len(o)], msb.WithListCursor(*cursor))
		}
		page, err := msb.ListSandboxesWith(ctx, o...)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Sandboxes...)
		if cursor = page.NextCursor; cursor == nil {
			return all, nil
		}
	}
}
