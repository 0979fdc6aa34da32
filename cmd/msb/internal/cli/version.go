package cli

import (
	_ "embed"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	msb "github.com/gomsb/gomsb/sdk"
)

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version",
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.Out, "msb %s\n", msb.SDKVersion())
			return err
		},
	}
}

//go:embed completion.elv
var elvishCompletion string // cobra has none

func (a *app) completionCmd(root *cobra.Command) *cobra.Command {
	shells := map[string]func(io.Writer) error{
		"bash":       func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh":        root.GenZshCompletion,
		"elvish":     func(w io.Writer) error { _, err := io.WriteString(w, elvishCompletion); return err },
		"fish":       func(w io.Writer) error { return root.GenFishCompletion(w, true) },
		"powershell": root.GenPowerShellCompletionWithDesc,
	}
	return &cobra.Command{
		Use: "completion <SHELL>", Short: "Print a completion script for bash, elvish, fish, powershell or zsh",
		RunE: func(_ *cobra.Command, args []string) error {
			gen, ok := shells[args[0]]
			if !ok {
				return badValue(args[0], "<SHELL>", choice{"bash", "elvish", "fish", "powershell", "zsh"})
			}
			return gen(a.Out)
		},
	}
}
