package cli

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

func (a *app) contextCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "context", Aliases: []string{"ctx"}, Short: "Show where sandboxes run, and why",
		RunE: func(*cobra.Command, []string) error {
			info, err := msb.DefaultBackendInfo()
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(a.Out) // other than elsewhere, the keys come in this order
				e.SetIndent("", "  ")
				return e.Encode(info)
			}
			var rows [][]string
			for _, row := range [][]string{{"Backend", string(info.Kind)}, {"API URL", info.APIURL}, {"Source", info.Source}, {"Profile", info.Profile}} {
				if row[1] != "" {
					rows = append(rows, row)
				}
			}
			ui.Table(a.Out, []string{"FIELD", "VALUE"}, rows)
			return nil
		},
	}
	formatFlag(cmd, &asJSON)
	return cmd
}
