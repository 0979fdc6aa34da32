package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
)

// list is how a command shows all of one kind: as JSON, as names only or as a table.
type list[T any] struct {
	json    func(T) map[string]any
	name    func(T) string
	none    string // instead of an empty table
	columns []string
	row     func(T) []string

	asJSON, quiet bool
}

// flags adds --format and --quiet, which prints what names says.
func (l *list[T]) flags(cmd *cobra.Command, names string) {
	formatFlag(cmd, &l.asJSON)
	cmd.Flags().BoolVarP(&l.quiet, "quiet", "q", false, "print "+names+" only")
}

func (l *list[T]) print(a *app, all []T) error {
	switch {
	case l.asJSON:
		out := []map[string]any{}
		for _, v := range all {
			out = append(out, l.json(v))
		}
		return printJSON(a.Out, out)
	case l.quiet:
		for _, v := range all {
			fmt.Fprintln(a.Out, l.name(v))
		}
	case len(all) == 0:
		fmt.Fprintln(a.Err, l.none)
	default:
		var rows [][]string
		for _, v := range all {
			rows = append(rows, l.row(v))
		}
		ui.Table(a.Out, l.columns, rows)
	}
	return nil
}
