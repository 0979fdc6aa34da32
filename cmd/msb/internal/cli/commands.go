package cli

import "github.com/spf13/cobra"

// entry is one of the root's commands. Those with many flags take time to build, and no
// command line needs more than one of them.
type entry struct {
	name  string // without its aliases
	build func() *cobra.Command
}

// section is a group of commands in the root's help.
type section struct {
	title   string
	entries []entry
}

// only is the command that args call by its name: none if it is in another section, and all
// of them if no section of all has it.
func only(all []section, args []string) []section {
	if len(args) == 0 {
		return all
	}
	one := make([]section, len(all))
	found := false
	for i, s := range all {
		one[i].title = s.title
		for _, e := range s.entries {
			if e.name == args[0] {
				one[i].entries, found = []entry{e}, true
			}
		}
	}
	if !found {
		return all
	}
	return one
}

// sections are all commands of the root but completion, which needs the others, and help.
func (a *app) sections() []section {
	return []section{
		{"Sandboxes", []entry{
			{"run", a.runCmd}, {"create", a.createCmd}, {"modify", a.modifyCmd}, {"start", a.startCmd}, {"stop", a.stopCmd},
			{"restart", a.restartCmd}, {"pause", a.pauseCmd}, {"resume", a.resumeCmd}, {"branch", a.branchCmd},
			{"restore", a.restoreCmd}, {"ping", a.pingCmd}, {"touch", a.touchCmd}, {"list", a.listCmd}, {"status", a.statusCmd},
			{"metrics", a.metricsCmd}, {"remove", a.removeCmd}, {"exec", a.execCmd}, {"copy", a.copyCmd}, {"logs", a.logsCmd},
			{"ssh", a.sshCmd}, {"inspect", a.inspectCmd}, {"context", a.contextCmd},
		}},
		{"Images", []entry{
			{"image", a.imageCmd}, {"pull", a.pullCmd}, {"load", a.loadCmd}, {"save", a.saveCmd}, {"registry", a.registryCmd},
			hidden("images", a.imageListCmd), hidden("rmi", a.imageRemoveCmd), hidden("registries", a.registryListCmd),
		}},
		{"Storage", []entry{
			{"volume", a.volumeCmd}, {"snapshot", a.snapshotCmd},
			hidden("volumes", a.volumeListCmd), hidden("snapshots", a.snapshotListCmd),
		}},
		{"Installation", []entry{
			{"install", a.installCmd}, {"uninstall", a.uninstallCmd}, {"doctor", func() *cobra.Command { return a.doctorCmd("doctor") }},
			{"update", a.updateCmd}, {"downgrade", a.downgradeCmd}, {"self", a.selfCmd},
		}},
		{"Other", []entry{{"version", a.versionCmd}}},
	}
}

// hidden is a command that the help does not list, another name of a subcommand.
func hidden(name string, build func(use string) *cobra.Command) entry {
	return entry{name, func() *cobra.Command {
		c := build(name)
		c.Hidden = true
		return c
	}}
}
