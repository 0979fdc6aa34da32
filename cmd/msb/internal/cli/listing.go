package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

// printJSON prints v indented with sorted keys, as every --format json does.
func printJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var generic any // maps print their keys sorted
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if err := d.Decode(&generic); err != nil {
		return err
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(generic)
}

// formatFlag is --format, whose only value is json.
func formatFlag(cmd *cobra.Command, dst *bool) {
	cmd.Flags().Func("format", "output format: json", func(s string) error {
		if s != "json" {
			return choice{"json"}
		}
		*dst = true
		return nil
	})
}

// timeJSON is a time as JSON shows it: RFC 3339 with the offset, and as many digits of a
// second as it has, in threes.
func timeJSON(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	t = t.Local()
	layout := "2006-01-02T15:04:05.000000000-07:00"
	switch n := t.Nanosecond(); {
	case n == 0:
		layout = "2006-01-02T15:04:05-07:00"
	case n%1e6 == 0:
		layout = "2006-01-02T15:04:05.000-07:00"
	case n%1e3 == 0:
		layout = "2006-01-02T15:04:05.000000-07:00"
	}
	return t.Format(layout)
}

// memory is an amount of MiB in the largest unit that divides it.
func memory[N ~uint32 | ~uint64](mib N) string {
	if mib > 0 && mib%1024 == 0 {
		return fmt.Sprintf("%d GiB", mib/1024)
	}
	return fmt.Sprintf("%d MiB", mib)
}

// capitalised is a status as JSON shows it.
func capitalised(s msb.SandboxStatus) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(string(s[:1])) + string(s[1:])
}

// runs reports a sandbox that has a machine, be it one that stands still.
func runs(h *msb.SandboxHandle) bool {
	s := h.Status()
	return s == msb.SandboxStatusRunning || s == msb.SandboxStatusDraining || s == msb.SandboxStatusPaused
}

func (a *app) listCmd() *cobra.Command {
	var running, stopped bool
	var labels []string
	l := list[*msb.SandboxHandle]{
		json: func(h *msb.SandboxHandle) map[string]any {
			return map[string]any{"name": h.Name(), "image": h.Image(), "status": capitalised(h.Status()), "created_at": timeJSON(h.CreatedAt())}
		},
		name: (*msb.SandboxHandle).Name, none: "No sandboxes found.",
		columns: []string{"NAME", "IMAGE", "STATUS", "CREATED"},
		row: func(h *msb.SandboxHandle) []string {
			return []string{h.Name(), h.Image(), string(h.Status()), ui.Time(h.CreatedAt())}
		},
	}
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List sandboxes",
		RunE: func(cmd *cobra.Command, _ []string) error {
			want, err := parseLabels(labels)
			if err != nil {
				return err
			}
			all, err := listAll(cmd.Context(), want)
			if err != nil {
				return err
			}
			all = slices.DeleteFunc(all, func(h *msb.SandboxHandle) bool {
				if running { // wins if both are given
					return !runs(h)
				}
				return stopped && h.Status() != msb.SandboxStatusStopped && h.Status() != msb.SandboxStatusCrashed
			})
			return l.print(a, all)
		},
	}
	cmd.Flags().BoolVar(&running, "running", false, "only running ones")
	cmd.Flags().BoolVar(&stopped, "stopped", false, "only stopped ones")
	cmd.Flags().StringArrayVar(&labels, "label", nil, "only those with this label; repeat to narrow down")
	l.flags(cmd, "names")
	return cmd
}

func (a *app) statusCmd() *cobra.Command {
	var everything, asJSON, quiet bool
	var labels []string
	cmd := &cobra.Command{
		Use: "status [NAME]", Aliases: []string{"ps"}, Short: "Show running sandboxes",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if everything {
					return usage("the argument '[NAME]' cannot be used with '--all'")
				}
				if len(labels) > 0 {
					return usage("the argument '[NAME]' cannot be used with '%s'", withValue("label"))
				}
				h, err := msb.GetSandbox(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return a.printStatus([]*msb.SandboxHandle{h}, asJSON, quiet, true, "")
			}
			want, err := parseLabels(labels)
			if err != nil {
				return err
			}
			all, err := listAll(cmd.Context(), want)
			if err != nil {
				return err
			}
			if !everything {
				all = slices.DeleteFunc(all, func(h *msb.SandboxHandle) bool { return !runs(h) })
			}
			slices.SortFunc(all, func(x, y *msb.SandboxHandle) int { return strings.Compare(x.Name(), y.Name()) })
			none := "No running sandboxes."
			if everything {
				none = "No sandboxes found."
			}
			return a.printStatus(all, asJSON, quiet, false, none)
		},
	}
	cmd.Flags().BoolVarP(&everything, "all", "a", false, "stopped ones too")
	cmd.Flags().StringArrayVar(&labels, "label", nil, "only those with this label; repeat to narrow down")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print names only")
	formatFlag(cmd, &asJSON)
	return cmd
}

// quoted is a command as text, each word in quotes.
func quoted(argv []string) string {
	words := make([]string, len(argv))
	for i, word := range argv {
		words[i] = strconv.Quote(word)
	}
	return strings.Join(words, " ")
}

func (a *app) printStatus(all []*msb.SandboxHandle, asJSON, quiet, one bool, none string) error {
	rows := [][]string{}
	out := []map[string]any{}
	for _, h := range all {
		c, err := h.EffectiveConfig()
		if err != nil {
			return err
		}
		command := "-"
		if argv := c.DefaultCommand(); len(argv) > 0 {
			command = quoted(argv)
		}
		ports := publishedPorts(c)
		out = append(out, map[string]any{
			"name": h.Name(), "status": capitalised(h.Status()), "image": h.Image(), "command": command, "cpus": c.CPUs, "max_cpus": c.MaxCPUs,
			"memory_mib": c.MemoryMiB, "max_memory_mib": c.MaxMemoryMiB, "ports": ports, "thp": thp(c),
		})
		rows = append(rows, []string{h.Name(), ui.Clip(h.Image(), 36), ui.Clip(command, 40), fmt.Sprintf("%d / %d", c.CPUs, c.MaxCPUs),
			memory(c.MemoryMiB) + " / " + memory(c.MaxMemoryMiB), string(h.Status()), ui.Clip(cmp.Or(strings.Join(ports, ", "), "-"), 32)})
	}
	switch {
	case asJSON && one:
		return printJSON(a.Out, out[0])
	case asJSON:
		return printJSON(a.Out, out)
	case quiet:
		for _, h := range all {
			fmt.Fprintln(a.Out, h.Name())
		}
	case len(all) == 0:
		fmt.Fprintln(a.Err, none)
	default:
		ui.Table(a.Out, []string{"NAME", "IMAGE", "COMMAND", "CPUS", "MEM", "STATUS", "PORTS"}, rows)
	}
	return nil
}

// publishedPorts are "BIND:HOST->GUEST/PROTOCOL" each.
func publishedPorts(c *msb.SandboxConfig) []string {
	ports := []string{}
	for _, b := range c.PortBindings {
		ports = append(ports, fmt.Sprintf("%s->%d/%s", net.JoinHostPort(b.Bind, strconv.Itoa(int(b.HostPort))), b.GuestPort, b.Protocol))
	}
	return ports
}

func thp(c *msb.SandboxConfig) msb.THPPolicy {
	if c.THP == "" {
		return msb.THPMadvise
	}
	return c.THP
}

// assignments are KEY=VALUE each, for these keys.
func assignments[V ~string](keys []string, m map[string]V) []string {
	var list []string
	for _, k := range keys {
		list = append(list, k+"="+string(m[k]))
	}
	return list
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
