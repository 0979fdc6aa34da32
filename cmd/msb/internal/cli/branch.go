package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gomsb/gomsb/cmd/msb/internal/flagtype"
	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

// continuation holds the flags of what goes on from the memory of a sandbox.
type continuation struct {
	hostname          string
	labels            []string
	ports             []string
	secrets           []string
	maxDuration, idle string
	logLevel          string
	quiet             bool
}

func (c *continuation) flags(f *pflag.FlagSet) {
	f.StringVarP(&c.hostname, "hostname", "H", "", "host name (default: the new name, unless the source was given one)")
	f.StringArrayVar(&c.labels, "label", nil, "attach a label besides the source's, KEY=VALUE or KEY (repeatable)")
	f.StringArrayVarP(&c.ports, "port", "p", nil, "publish a port of the guest, [BIND:]HOST:GUEST[/tcp|/udp]; none of the source's is (repeatable)")
	f.StringArrayVar(&c.secrets, "secret", nil, "a secret whose value is kept nowhere: take it from the variable of this name (repeatable)")
	f.StringVar(&c.maxDuration, "max-duration", "", "stop after this time, such as 90s, 10m or 2h")
	f.StringVar(&c.idle, "idle-timeout", "", "stop after this time without activity")
	f.StringVar(&c.logLevel, "log-level", "", "detail of the runtime's log: error, warn, info, debug or trace")
	f.BoolVarP(&c.quiet, "quiet", "q", false, "print no progress")
}

// options turns the flags into options for the sdk.
func (c *continuation) options() ([]msb.SandboxOption, error) {
	opts := []msb.SandboxOption{msb.WithHostname(c.hostname), msb.WithDetached()}
	add := func(o ...msb.SandboxOption) { opts = append(opts, o...) }
	err := firstError(
		expect("log level", c.logLevel, logLevels...),
		parsed("max-duration", c.maxDuration, flagtype.Seconds, func(d time.Duration) { add(msb.WithMaxDuration(d)) }),
		parsed("idle-timeout", c.idle, flagtype.Seconds, func(d time.Duration) { add(msb.WithIdleTimeout(d)) }),
	)
	if err != nil {
		return nil, err
	}
	if c.logLevel != "" {
		add(msb.WithLogLevel(msb.LogLevel(c.logLevel)))
	}
	labels, err := pairs(c.labels, flagtype.Label)
	if err != nil {
		return nil, err
	}
	add(msb.WithLabels(labels))
	ports, err := (&networking{ports: c.ports}).published()
	if err != nil {
		return nil, err
	}
	add(ports...)
	for _, name := range c.secrets {
		value, set := os.LookupEnv(name)
		if !set || value == "" {
			return nil, fmt.Errorf("invalid value '%s' for '--secret': this environment has no variable of that name", name)
		}
		add(msb.WithSecrets(msb.Secret.Env(name, value, msb.SecretEnvOptions{})))
	}
	return opts, nil
}

func (a *app) branchCmd() *cobra.Command {
	c := &continuation{}
	var name string
	var names []string
	var ephemeral, asJSON bool
	cmd := &cobra.Command{
		Use: "branch <SOURCE>", Short: "Make copies of a running or paused sandbox that go on from its memory",
		Long: "Make copies of a running or paused sandbox that go on from its memory and disks.\n\n" +
			"The sandbox stands still for a moment and goes on; a paused one stays paused. Each copy has its own name, addresses and disks; directories of the host and directory volumes are shared. Ports are published only with --port.",
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := c.options()
			if err != nil {
				return err
			}
			if ephemeral {
				opts = append(opts, msb.WithEphemeral(true))
			}
			wanted := names
			if name != "" {
				wanted = []string{name}
			}
			generated := len(wanted) == 0
			if generated {
				wanted = []string{generatedName()}
			}
			begin := time.Now()
			h, err := msb.GetSandbox(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			up, err := h.Branch(cmd.Context(), wanted, opts...)
			for _, sb := range up {
				_ = sb.Detach(context.WithoutCancel(cmd.Context())) // it runs anyway
			}
			return a.reportBranch(&branchOutcome{source: args[0], names: wanted, up: up, err: err, took: time.Since(begin), quiet: c.quiet, generated: generated, asJSON: asJSON})
		},
	}
	c.flags(cmd.Flags())
	cmd.Flags().StringVarP(&name, "name", "n", "", "name of the copy; without one it gets a generated name")
	cmd.Flags().StringSliceVar(&names, "names", nil, "names of several copies, separated by commas (repeatable)")
	exclusive(cmd.Flags(), "name", "names")
	cmd.Flags().BoolVar(&ephemeral, "ephemeral", false, "remove each copy when it ends")
	formatFlag(cmd, &asJSON)
	return cmd
}

// branchOutcome is what came of msb branch.
type branchOutcome struct {
	source           string
	names            []string
	up               []*msb.Sandbox
	err              error
	took             time.Duration
	quiet, generated bool
	asJSON           bool
}

// reportBranch tells which copies run, and why others do not.
func (a *app) reportBranch(o *branchOutcome) error {
	var failed *msb.BranchError
	if o.err != nil && !errors.As(o.err, &failed) {
		return advise(o.err, msb.ErrSandboxAlreadyExists, "choose another name, or remove that sandbox first")
	}
	if o.asJSON {
		if err := printJSON(a.Out, o.json(failed)); err != nil {
			return err
		}
	}
	if o.generated && len(o.up) == 1 && !o.asJSON {
		fmt.Fprintln(a.Out, o.names[0])
	}
	if !o.quiet && !o.asJSON {
		for _, sb := range o.up {
			ui.Done(a.Err, "Branched", sb.Name(), o.took)
		}
	}
	if failed == nil {
		return nil
	}
	if len(failed.Failed) == 1 && len(o.names) == 1 {
		return failed.Failed[0].Cause
	}
	for _, f := range failed.Failed {
		ui.Warn(a.Err, fmt.Sprintf("copy %s did not come up, and nothing is left of it", f.Name))
		a.report(f.Cause)
	}
	return exitStatus(exitError)
}

// json is the outcome as --format json prints it: the copies in the order of their names
// on the command line.
func (o *branchOutcome) json(failed *msb.BranchError) map[string]any {
	var children []map[string]any
	for _, name := range o.names {
		child := map[string]any{"name": name, "status": "Running", "error": nil}
		if failed != nil {
			if i := slices.IndexFunc(failed.Failed, func(f msb.BranchFailure) bool { return f.Name == name }); i >= 0 {
				child["status"], child["error"] = nil, strings.TrimSpace(failed.Failed[i].Cause.Error())
			}
		}
		children = append(children, child)
	}
	return map[string]any{"source": o.source, "children": children}
}

func (a *app) restoreCmd() *cobra.Command {
	c := &continuation{}
	var name, pull string
	var diskOnly, trust, replace, asJSON bool
	cmd := &cobra.Command{
		Use: "restore <SNAPSHOT>", Short: "Make a sandbox that goes on from the memory of a full snapshot",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := expect("pull policy", pull, "always", "if-missing", "never"); err != nil {
				return err
			}
			opts, err := c.options()
			if err != nil {
				return err
			}
			opts = append(opts, msb.WithPullPolicy(msb.PullPolicy(pull)))
			if diskOnly {
				opts = append(opts, msb.WithDiskOnly())
			}
			if trust {
				opts = append(opts, msb.WithTrustedConfig())
			}
			if replace {
				opts = append(opts, msb.WithReplace())
			}
			if !c.quiet {
				opts = append(opts, a.showPull())
			}
			wanted := name
			if wanted == "" {
				wanted = generatedName()
			}
			begin := time.Now()
			sb, err := msb.Restore(cmd.Context(), args[0], wanted, opts...)
			if err != nil {
				return advise(err, msb.ErrSandboxAlreadyExists, "choose another name, or remove that sandbox first with --replace")
			}
			if err := sb.Detach(cmd.Context()); err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.Out, map[string]any{"name": wanted, "snapshot": args[0], "status": "Running"})
			}
			if name == "" {
				fmt.Fprintln(a.Out, wanted)
			}
			if !c.quiet {
				ui.Done(a.Err, "Restored", wanted, time.Since(begin))
			}
			return nil
		},
	}
	c.flags(cmd.Flags())
	f := cmd.Flags()
	f.StringVarP(&name, "name", "n", "", "name of the sandbox; without one it gets a generated name")
	f.StringVar(&pull, "pull", "", "when to fetch the image: always, if-missing or never")
	f.BoolVar(&replace, "replace", false, "remove a sandbox of the same name first")
	memoryFlags(f, &diskOnly, &trust)
	formatFlag(cmd, &asJSON)
	return cmd
}

// memoryFlags say what becomes of the memory of a full snapshot.
func memoryFlags(f *pflag.FlagSet, diskOnly, trust *bool) {
	f.BoolVar(diskOnly, "disk-only", false, "boot from the snapshot's disk, and leave its memory alone")
	f.BoolVar(trust, "trust-config", false, "give a sandbox from a full snapshot that was not made here what it wants of this host: directories, volumes, sockets, secrets, its own network")
	exclusive(f, "disk-only", "trust-config")
}
