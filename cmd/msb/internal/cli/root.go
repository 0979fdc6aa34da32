package cli

import (
	"github.com/spf13/cobra"

	msb "github.com/gomsb/gomsb/sdk"
)

// logLevels are the names of the global flags that choose one, and of --log-level.
var logLevels = []string{"error", "warn", "info", "debug", "trace"}

// root builds the command tree, or as much of it as args need.
func (a *app) root(args []string) *cobra.Command {
	title := "Microsandbox CLI v" + msb.SDKVersion()
	root := &cobra.Command{
		Use:               "msb",
		Short:             title,
		Long:              title + "\n\nRuns untrusted code in microVMs that start from OCI images.",
		SilenceUsage:      true,
		SilenceErrors:     true,
		Version:           msb.SDKVersion(),
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("unrecognized subcommand '%s'", args[0])
			}
			return cmd.Help()
		},
	}
	root.SetVersionTemplate("msb {{.Version}}\n")
	root.SetFlagErrorFunc(badFlag)
	root.Flags().BoolP("version", "V", false, "print the version")
	flags := root.PersistentFlags()
	flags.BoolP("help", "h", false, "print help")
	flags.Bool("tree", false, "print the command tree and exit")
	for _, level := range logLevels {
		flags.BoolFunc(level, "show diagnostics of this level", func(string) error {
			a.level = level
			return nil
		})
	}
	exclusive(flags, logLevels...)
	for _, g := range only(a.sections(), args) {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title + ":"})
		for _, e := range g.entries {
			c := e.build()
			c.GroupID = g.title
			root.AddCommand(c)
		}
	}
	completion := a.completionCmd(root)
	completion.GroupID = "Installation"
	root.AddCommand(completion)
	root.SetHelpCommand(helpCmd(root))
	root.SetHelpCommandGroupID("Other")
	a.prepare(root)
	return root
}

// group is the RunE of a command that only has subcommands, which it lists.
func group(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("unrecognized subcommand '%s'", args[0])
	}
	cmd.SetOut(cmd.ErrOrStderr())
	if err := cmd.Help(); err != nil {
		return err
	}
	return exitStatus(exitUsage)
}

// helpCmd is msb help COMMAND, which is msb COMMAND --help.
func helpCmd(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]...", Short: "Print help about a command",
		RunE: func(_ *cobra.Command, args []string) error {
			c, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usage("unrecognized subcommand '%s'", append(rest, args...)[0])
			}
			return c.Help()
		},
	}
}

// prepare gives every command --tree, which comes before any check of its arguments, and
// turns argument mistakes into usage errors.
func (a *app) prepare(c *cobra.Command) {
	wantsTree := func(cmd *cobra.Command) bool {
		tree, _ := cmd.Flags().GetBool("tree")
		return tree
	}
	check, run := c.Args, c.RunE
	if check == nil && (len(positionals(c)) > 0 || !c.HasSubCommands()) {
		check = checkArguments
	}
	c.Args = func(cmd *cobra.Command, args []string) error {
		if wantsTree(cmd) {
			return nil
		}
		if check == nil {
			return nil
		}
		return check(cmd, args)
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if wantsTree(cmd) {
			printTree(a.Out, cmd)
			return nil
		}
		return run(cmd, args)
	}
	for _, sub := range c.Commands() {
		a.prepare(sub)
	}
}
