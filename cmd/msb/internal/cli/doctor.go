package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

// selfCmd groups what concerns the installation.
func (a *app) selfCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "self", Short: "Manage this installation", RunE: group}
	cmd.AddCommand(a.doctorCmd("doctor"))
	return cmd
}

func (a *app) doctorCmd(use string) *cobra.Command {
	return &cobra.Command{
		Use: use, Aliases: []string{"check"}, Short: "Check that this host can run sandboxes, and say how to mend it",
		RunE: func(cmd *cobra.Command, _ []string) error {
			report := msb.Diagnose(cmd.Context())
			for _, i := range report.Info {
				fmt.Fprintf(a.Err, "  %-10s %s\n", i.Name, ui.Plain(i.Value))
			}
			for _, c := range report.Checks {
				mark := "✓"
				switch {
				case c.OK:
				case c.Required:
					mark = "✗"
				default:
					mark = "!"
				}
				fmt.Fprintf(a.Err, "%s %-12s %s\n", mark, c.Name, ui.Plain(c.Detail))
				if !c.OK {
					for _, r := range c.Remedies {
						fmt.Fprintf(a.Err, "  → %s\n", ui.Plain(r))
					}
				}
			}
			if !report.OK() {
				return exitStatus(exitError)
			}
			return nil
		},
	}
}
