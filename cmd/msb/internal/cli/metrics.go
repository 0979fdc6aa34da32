package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/flagtype"
	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

// metricsView is what a metrics command shows, and how often.
type metricsView struct {
	name     string // of one sandbox; "" for all
	all      bool   // those that have ended too
	sort     string
	interval time.Duration
}

func (a *app) metricsCmd() *cobra.Command {
	v := metricsView{sort: "name"}
	var asJSON, watch, follow bool
	interval := "1s"
	cmd := &cobra.Command{
		Use: "metrics [NAME]", Short: "Show what running sandboxes use",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if v.interval, err = flagtype.MetricsInterval(interval); err != nil {
				return fmt.Errorf("invalid --interval %q (expected e.g. 500ms, 2s)", interval)
			}
			if len(args) == 1 {
				v.name = args[0]
			}
			switch {
			case follow:
				return a.followMetrics(cmd.Context(), v)
			case watch:
				return a.watchMetrics(cmd.Context(), v)
			case asJSON:
				return a.metricsJSON(cmd.Context(), v)
			}
			return a.metricsTable(cmd.Context(), v)
		},
	}
	flags := cmd.Flags()
	formatFlag(cmd, &asJSON)
	flags.BoolVarP(&watch, "watch", "w", false, "refresh the table in place until Ctrl-C")
	flags.BoolVarP(&follow, "follow", "f", false, "print one line of JSON per sandbox and interval")
	flags.StringVar(&interval, "interval", interval, "how often to refresh with --watch and --follow, as 500ms or 2s; at least 100ms")
	flags.BoolVarP(&v.all, "all", "a", false, "also sandboxes that have ended and whose last sample is still there")
	exclusive(flags, "format", "follow")
	exclusive(flags, "format", "watch")
	exclusive(flags, "watch", "follow")
	flags.Func("sort", "order of the rows: name, cpu or mem (default name)", func(s string) error {
		if !slices.Contains([]string{"name", "cpu", "mem"}, s) {
			return choice{"name", "cpu", "mem"}
		}
		v.sort = s
		return nil
	})
	return cmd
}

// read returns the reports to show, in order.
func (v *metricsView) read(ctx context.Context) ([]msb.MetricsReport, error) {
	all, err := msb.MetricsReports(ctx, v.all || v.name != "")
	if err != nil {
		return nil, err
	}
	if v.name != "" {
		return v.one(ctx, all)
	}
	sortReports(all, v.sort)
	return all, nil
}

// sortReports orders reports by name, or by what is used, most first.
func sortReports(all []msb.MetricsReport, by string) {
	slices.SortFunc(all, func(x, y msb.MetricsReport) int {
		order := 0
		switch by {
		case "cpu":
			order = cmp.Compare(y.CPUPercent, x.CPUPercent)
		case "mem":
			order = cmp.Compare(y.MemoryBytes, x.MemoryBytes)
		}
		return cmp.Or(order, strings.Compare(x.Name, y.Name))
	})
}

// one picks the newest report of the sandbox that was named, waiting for the first if it
// has just started.
func (v *metricsView) one(ctx context.Context, all []msb.MetricsReport) ([]msb.MetricsReport, error) {
	all = slices.DeleteFunc(all, func(r msb.MetricsReport) bool { return r.Name != v.name })
	newest := func(x, y msb.MetricsReport) int { return x.SampledAt.Compare(y.SampledAt) }
	h, err := msb.GetSandbox(ctx, v.name)
	switch {
	case err != nil && (len(all) == 0 || !msb.IsKind(err, msb.ErrSandboxNotFound)):
		return nil, err
	case err == nil && runs(h) && !slices.ContainsFunc(all, func(r msb.MetricsReport) bool { return r.State != msb.MetricsExited }):
		m, err := h.Metrics(ctx)
		if err != nil {
			return nil, err
		}
		c, err := h.EffectiveConfig()
		if err != nil {
			return nil, err
		}
		return []msb.MetricsReport{{Name: v.name, State: msb.MetricsRunning, CPUs: c.CPUs, Metrics: *m}}, nil
	case len(all) == 0:
		return nil, fmt.Errorf("metrics unavailable for sandbox: %s", v.name)
	}
	return []msb.MetricsReport{slices.MaxFunc(all, newest)}, nil
}

// reportJSON is a report as --format json and --follow show it.
func reportJSON(r msb.MetricsReport) map[string]any {
	var cpus any
	if r.CPUs > 0 {
		cpus = r.CPUs
	}
	return map[string]any{
		"name": r.Name, "state": r.State, "cpus": cpus, "timestamp": r.SampledAt.UTC().Format("2006-01-02T15:04:05.000-07:00"),
		"cpu_percent": r.CPUPercent, "vcpu_time_ns": r.VCPUTimeNs, "memory_bytes": r.MemoryBytes, "memory_available_bytes": r.MemoryAvailableBytes,
		"memory_host_resident_bytes": r.MemoryHostResidentBytes, "memory_limit_bytes": r.MemoryLimitBytes, "disk_read_bytes": r.DiskReadBytes,
		"disk_write_bytes": r.DiskWriteBytes, "net_rx_bytes": r.NetRxBytes, "net_tx_bytes": r.NetTxBytes, "upper_used_bytes": r.UpperUsedBytes,
		"upper_free_bytes": r.UpperFreeBytes, "upper_host_allocated_bytes": r.UpperHostAllocatedBytes, "uptime_secs": r.Uptime.Seconds(),
	}
}

func (a *app) metricsJSON(ctx context.Context, v metricsView) error {
	all, err := v.read(ctx)
	if err != nil {
		return err
	}
	if v.name != "" {
		return printJSON(a.Out, reportJSON(all[0]))
	}
	out := []map[string]any{}
	for _, r := range all {
		out = append(out, reportJSON(r))
	}
	return printJSON(a.Out, out)
}

// followMetrics prints a line a sandbox and interval until it is interrupted.
func (a *app) followMetrics(ctx context.Context, v metricsView) error {
	return v.repeat(ctx, func(all []msb.MetricsReport) error {
		e := json.NewEncoder(a.Out)
		e.SetEscapeHTML(false)
		for _, r := range all {
			if err := e.Encode(reportJSON(r)); err != nil {
				return err
			}
		}
		return nil
	})
}

// repeat shows the reports at every interval until the command is interrupted.
func (v *metricsView) repeat(ctx context.Context, show func([]msb.MetricsReport) error) error {
	tick := time.NewTicker(v.interval)
	defer tick.Stop()
	for {
		all, err := v.read(ctx)
		if err == nil {
			err = show(all)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// watchMetrics refreshes a table in place until it is interrupted.
func (a *app) watchMetrics(ctx context.Context, v metricsView) error {
	if _, ok := ui.Terminal(a.Out); !ok || os.Getenv("TERM") == "dumb" { // which has no cursor to move
		return errors.New("--watch requires a terminal; use --follow for machine-readable streaming")
	}
	fmt.Fprint(a.Out, "\x1b[?25l") // no cursor meanwhile
	defer fmt.Fprint(a.Out, "\x1b[?25h")
	var before []msb.MetricsReport
	return v.repeat(ctx, func(all []msb.MetricsReport) error {
		var screen strings.Builder
		fmt.Fprintf(&screen, "\r\x1b[2J\x1b[H%s\n\n", ui.Dim(a.Out, "every "+ui.Short(v.interval)+"  ·  ctrl-c to quit"))
		printReports(&screen, &screen, all, before)
		before = all
		_, err := io.WriteString(a.Out, screen.String())
		return err
	})
}

// metricsTable prints a table once. Rates need two samples, so that it takes as long as
// the next one.
func (a *app) metricsTable(ctx context.Context, v metricsView) error {
	before, err := v.read(ctx)
	if err != nil {
		return err
	}
	after := before
	last := time.Now().Add(1500 * time.Millisecond) // samples are taken every second
	for slices.ContainsFunc(before, func(r msb.MetricsReport) bool { return r.State == msb.MetricsRunning && !sampledSince(after, r) }) && time.Now().Before(last) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		if after, err = v.read(ctx); err != nil {
			return err
		}
	}
	printReports(a.Out, a.Err, after, before)
	return nil
}

// sampledSince reports that there is a newer sample than r, or no running sandbox any more.
func sampledSince(all []msb.MetricsReport, r msb.MetricsReport) bool {
	i := slices.IndexFunc(all, func(x msb.MetricsReport) bool { return x.Name == r.Name })
	return i < 0 || all[i].State != msb.MetricsRunning || all[i].SampledAt.After(r.SampledAt)
}

// printReports prints a table with rates since the samples of before.
func printReports(out, empty io.Writer, all, before []msb.MetricsReport) {
	if len(all) == 0 {
		fmt.Fprintln(empty, "No running sandboxes.")
		return
	}
	var rows [][]string
	for _, r := range all {
		earlier := r
		if i := slices.IndexFunc(before, func(x msb.MetricsReport) bool { return x.Name == r.Name }); i >= 0 {
			earlier = before[i]
		}
		rows = append(rows, reportRow(r, earlier))
	}
	ui.Table(out, []string{"NAME", "STATE", "CPU", "MEM", "DISK R/W /s", "NET RX/TX /s", "UPTIME"}, rows)
}

func reportRow(r, earlier msb.MetricsReport) []string {
	row := []string{r.Name, string(r.State), "—", amount(r.MemoryBytes) + " / " + amount(r.MemoryLimitBytes)}
	up := r.Uptime.Round(time.Second).String()
	if r.State == msb.MetricsExited {
		return append(row, amount(r.DiskReadBytes)+" / "+amount(r.DiskWriteBytes)+" total", amount(r.NetRxBytes)+" / "+amount(r.NetTxBytes)+" total", "ran "+up)
	}
	cpus := "-"
	if r.CPUs > 0 {
		cpus = strconv.Itoa(int(r.CPUs)) + "c"
	}
	row[2] = fmt.Sprintf("%.2f / %s", r.CPUPercent/100, cpus)
	since := r.SampledAt.Sub(earlier.SampledAt)
	rate := func(now, then uint64) string { return amount(perSecond(now, then, since)) }
	return append(row, rate(r.DiskReadBytes, earlier.DiskReadBytes)+" / "+rate(r.DiskWriteBytes, earlier.DiskWriteBytes),
		rate(r.NetRxBytes, earlier.NetRxBytes)+" / "+rate(r.NetTxBytes, earlier.NetTxBytes), up)
}

// perSecond is the rate of a counter; 0 for one that began anew.
func perSecond(now, then uint64, since time.Duration) uint64 {
	if since <= 0 || now < then {
		return 0
	}
	return uint64(float64(now-then) / since.Seconds())
}

func amount(n uint64) string { return ui.Size(int64(min(n, 1<<62))) }
