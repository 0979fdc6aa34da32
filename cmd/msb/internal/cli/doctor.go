package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

func (a *app) doctorCmd(use string) *cobra.Command {
	var fix, yes bool
	cmd := &cobra.Command{
		Use: use, Aliases: []string{"check"}, Short: "Check that this host can run sandboxes, and say how to mend it",
		RunE: func(cmd *cobra.Command, _ []string) error {
			report := msb.Diagnose(cmd.Context())
			a.printDiagnosis(report, fix)
			if fix && !report.OK() {
				mended, err := a.mend(cmd.Context(), report, yes)
				if err != nil {
					return err
				}
				if mended {
					report = msb.Diagnose(cmd.Context())
					a.printDiagnosis(report, fix)
				}
			}
			if !report.OK() {
				return exitStatus(exitError)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&fix, "fix", false, "mend what can be mended by a command of this host")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "mend without asking")
	return cmd
}

// printDiagnosis prints facts, checks, and what to do about those that failed.
func (a *app) printDiagnosis(d *msb.Diagnosis, fixing bool) {
	for _, i := range d.Info {
		fmt.Fprintf(a.Err, "info %s: %s\n", i.Name, ui.Plain(i.Value))
	}
	for _, c := range d.Checks {
		mark := "✓"
		switch {
		case c.OK:
		case c.Required:
			mark = "✗"
		default:
			mark = "!"
		}
		fmt.Fprintf(a.Err, "   %s %-12s %s\n", mark, c.Name, ui.Plain(c.Detail))
	}
	for _, c := range d.Checks {
		remedies := c.Remedies
		if len(c.Fixes) > 0 && !fixing {
			remedies = append(remedies[:len(remedies):len(remedies)], "apply automatically: msb doctor --fix")
		}
		switch message := c.Name + ": " + c.Detail; {
		case c.OK:
		case c.Required:
			ui.Error(a.Err, message, remedies...)
		default:
			ui.Warn(a.Err, message, remedies...)
		}
	}
}

// mend runs the commands that mend what failed, each if the user agrees or yes says so,
// and reports whether any was run.
func (a *app) mend(ctx context.Context, d *msb.Diagnosis, yes bool) (mended bool, err error) {
	var fixes [][]string
	for _, c := range d.Checks {
		fixes = append(fixes, c.Fixes...)
	}
	if len(fixes) == 0 {
		ui.Warn(a.Err, "no automatic fixes are available for the problems above.")
		return false, nil
	}
	for _, argv := range fixes {
		if os.Geteuid() != 0 {
			argv = append([]string{"sudo"}, argv...)
		}
		text := strings.Join(argv, " ")
		if !yes {
			if ok, err := a.confirm("Apply fix "+text+"?", "pass --yes to apply fixes"); err != nil {
				return mended, err
			} else if !ok {
				continue
			}
		}
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = a.In, a.Err, a.Err
		if err := cmd.Run(); err != nil {
			ui.Error(a.Err, text+": "+err.Error(), "run it by hand as root")
			continue
		}
		ui.Done(a.Err, "Applied", text, 0)
		mended = true
	}
	return mended, nil
}
