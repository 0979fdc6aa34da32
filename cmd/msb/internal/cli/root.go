package cli

import (
	"github.com/spf13/cobra"

	msb "github.com/gomsb/gomsb/sdk"
)

// logLevels are the names of the global flags that choose one, and of --log-level.
var logLevels = []string{"error", "warn", "info", "debug", "trace"}

// root builds the command tree.
func (a *app) root() *cobra.Command {
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
	add := func(group string, cmds ...*cobra.Command) {
		root.AddGroup(&cobra.Group{ID: group, Title: group + ":"})
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("Sandboxes", a.runCmd(), a.createCmd(), a.modifyCmd(), a.startCmd(), a.stopCmd(), a.restartCmd(), a.pauseCmd(), a.resumeCmd(), a.branchCmd(), a.restoreCmd(), a.pingCmd(), a.touchCmd(), a.listCmd(), a.statusCmd(),
		a.metricsCmd(), a.removeCmd(), a.execCmd(), a.copyCmd(), a.logsCmd(), a.sshCmd(), a.inspectCmd(), a.contextCmd())
	add("Images", a.imageCmd(), a.pullCmd(), a.loadCmd(), a.saveCmd(), a.registryCmd(), hidden(a.imageListCmd("images")), hidden(a.imageRemoveCmd("rmi")),
		hidden(a.registryListCmd("registries")))
	add("Storage", a.volumeCmd(), a.snapshotCmd(), hidden(a.volumeListCmd("volumes")), hidden(a.snapshotListCmd("snapshots")))
	add("Installation", a.installCmd(), a.uninstallCmd(), a.doctorCmd("doctor"), a.updateCmd(), a.downgradeCmd(), a.selfCmd(), a.completionCmd(root))
	add("Other", a.versionCmd())
	root.SetHelpCommand(helpCmd(root))
	root.SetHelpCommandGroupID("Other")
	a.prepare(root)
	return root
}

func hidden(c *cobra.Command) *cobra.Command {
	c.Hidden = true
	return c
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
