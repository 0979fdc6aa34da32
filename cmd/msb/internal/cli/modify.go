package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/flagtype"
	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

// modifyFlags are the flags of modify.
type modifyFlags struct {
	cpus, maxCPUs               uint8
	memory, maxMemory, rootDisk string
	env, labels, secrets        []string
	change                      msb.ModifyOptions // what needs no parsing
	nextStart, restart, asJSON  bool
}

func (a *app) modifyCmd() *cobra.Command {
	m := &modifyFlags{}
	cmd := &cobra.Command{
		Use: "modify <NAME>", Aliases: []string{"mod"}, Short: "Change the resources, environment, labels and secrets of a sandbox",
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := m.options(cmd)
			if err != nil {
				return err
			}
			h, err := msb.GetSandbox(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			plan, err := h.Modify(cmd.Context(), o)
			if plan == nil {
				return err
			}
			return a.reportPlan(plan, m.asJSON, o.DryRun, err)
		},
	}
	f := cmd.Flags()
	f.Uint8Var(&m.cpus, "cpus", 0, "virtual processors")
	f.Uint8Var(&m.maxCPUs, "max-cpus", 0, "how many there may be while it runs")
	f.StringVar(&m.memory, "memory", "", "memory, such as 512M or 1.5G")
	f.StringVar(&m.maxMemory, "max-memory", "", "how much there may be while it runs")
	f.StringVar(&m.rootDisk, "root-disk", "", "size of the root disk, which only grows")
	f.StringArrayVar(&m.env, "env", nil, "set a variable, KEY=VALUE, or KEY to copy it from here (repeatable)")
	f.StringArrayVar(&m.change.EnvRemove, "env-rm", nil, "remove a variable (repeatable)")
	f.StringArrayVar(&m.labels, "label", nil, "set a label, KEY=VALUE (repeatable)")
	f.StringArrayVar(&m.change.LabelsRemove, "label-rm", nil, "remove a label (repeatable)")
	f.StringVar(&m.change.Workdir, "workdir", "", "working directory of commands")
	f.StringArrayVar(&m.secrets, "secret", nil, "add a secret or give it another value or other hosts, ENV@HOST[,HOST...] (repeatable)")
	f.StringArrayVar(&m.change.SecretsRemove, "secret-rm", nil, "remove a secret (repeatable)")
	f.BoolVar(&m.change.DryRun, "dry-run", false, "show what would change, and change nothing")
	f.BoolVar(&m.nextStart, "next-start", false, "keep all changes for the next start")
	f.BoolVar(&m.restart, "restart", false, "restart the sandbox if a change needs it")
	exclusive(f, "next-start", "restart")
	formatFlag(cmd, &m.asJSON)
	return cmd
}

// options turns the flags into options for the sdk.
func (m *modifyFlags) options(cmd *cobra.Command) (o msb.ModifyOptions, err error) {
	o = m.change
	for flag, n := range map[string]uint8{"cpus": m.cpus, "max-cpus": m.maxCPUs} {
		if cmd.Flags().Changed(flag) && n == 0 {
			return o, fmt.Errorf("%s must be greater than 0", flag)
		}
	}
	o.CPUs, o.MaxCPUs = m.cpus, m.maxCPUs
	err = firstError(
		parsed("memory", m.memory, positiveMiB, func(v uint32) { o.MemoryMiB = v }),
		parsed("max-memory", m.maxMemory, positiveMiB, func(v uint32) { o.MaxMemoryMiB = v }),
		parsed("root-disk", m.rootDisk, rootDiskSize, func(v uint32) { o.RootDiskSizeMiB = v }),
	)
	if err != nil {
		return o, err
	}
	if o.Env, err = pairs(m.env, flagtype.Env); err != nil {
		return o, err
	}
	if o.Labels, err = pairs(m.labels, flagtype.Label); err != nil {
		return o, err
	}
	o.Secrets = make(map[string]msb.SecretModifySpec)
	for _, s := range m.secrets {
		name, hosts, err := flagtype.Secret(s)
		if err != nil {
			return o, fmt.Errorf("invalid value for '--secret': %w", err)
		}
		o.Secrets[name] = msb.SecretModifySpec{Env: name, AllowedHosts: hosts}
	}
	switch {
	case m.nextStart:
		o.Policy = msb.ModificationPolicyNextStart
	case m.restart:
		o.Policy = msb.ModificationPolicyRestart
	}
	return o, nil
}

func pairs(list []string, parse func(string) (string, string, error)) (map[string]string, error) {
	all := map[string]string{}
	for _, s := range list {
		k, v, err := parse(s)
		if err != nil {
			return nil, err
		}
		all[k] = v
	}
	return all, nil
}

// reportPlan prints a plan, and what is in its way. refused is why it was not carried out.
func (a *app) reportPlan(p *msb.SandboxModificationPlan, asJSON, dryRun bool, refused error) error {
	if asJSON {
		if err := printJSON(a.Out, p); err != nil {
			return err
		}
		return refused
	}
	switch {
	case len(p.Changes) == 0 && len(p.Conflicts) == 0:
		fmt.Fprintln(a.Out, "No changes.")
	case dryRun || refused != nil:
		a.printChanges(p)
	default:
		a.printResizes(p)
	}
	for _, w := range p.Warnings {
		ui.Warn(a.Err, w.Field+": "+w.Message)
	}
	for _, c := range p.Conflicts {
		ui.Warn(a.Err, "conflict: "+c.Field+": "+c.Message)
	}
	switch {
	case refused != nil:
		return refused
	case dryRun:
		fmt.Fprintln(a.Err, ui.Dim(a.Err, "dry run · nothing applied"))
	case p.Policy == msb.ModificationPolicyNextStart && len(p.Changes) > 0:
		ui.Done(a.Err, "Modified", p.Sandbox+" (next start)", 0)
	case len(p.Changes) > 0:
		ui.Done(a.Err, "Modified", p.Sandbox, 0)
	}
	return nil
}

// printResizes prints how far the guest is with sizes that it does not have yet.
func (a *app) printResizes(p *msb.SandboxModificationPlan) {
	var rows [][]string
	for _, r := range p.ResizeStatus {
		if r.State != "applied" {
			rows = append(rows, []string{r.Resource, r.Requested, r.Actual, r.Enforced, r.State})
		}
	}
	if len(rows) > 0 {
		ui.Table(a.Out, []string{"FIELD", "REQUESTED", "ACTUAL", "ENFORCED", "STATE"}, rows)
	}
}

// printChanges prints the table of a plan.
func (a *app) printChanges(p *msb.SandboxModificationPlan) {
	var rows [][]string
	for _, c := range p.Changes {
		field, before, after := strings.ReplaceAll(c.Field, "_", " "), c.Before, c.After
		if c.Kind == "secret" {
			field, before, after = "secret "+c.Name, c.BeforeRef, c.AfterRef
		}
		rows = append(rows, []string{field, c.Change, orDash(before), orDash(after), c.Disposition})
	}
	if len(rows) > 0 {
		ui.Table(a.Out, []string{"FIELD", "CHANGE", "BEFORE", "AFTER", "EFFECT"}, rows)
	}
}
