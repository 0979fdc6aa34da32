package cli

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

// selfCmd groups what concerns the installation.
func (a *app) selfCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "self", Short: "Manage this installation", RunE: group}
	cmd.AddCommand(a.doctorCmd("doctor"), a.updateCmd(), a.downgradeCmd(), a.selfUninstallCmd())
	return cmd
}

// noReleases is why update and downgrade cannot do what they are for.
func (a *app) noReleases(version string) error {
	path, err := os.Executable()
	if err != nil {
		path = "this program"
	}
	ui.Error(a.Err, "there is no release server to fetch msb from",
		"msb is one file: put the new one in the place of "+path,
		"or build it: CGO_ENABLED=0 go install github.com/gomsb/gomsb/cmd/msb@"+version,
		"the data root stays as it is, and sandboxes that run go on")
	return exitStatus(exitError)
}

func (a *app) updateCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "update", Aliases: []string{"upgrade"}, Short: "Say how to replace this program by a newer one",
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintf(a.Err, "info Current version: v%s\n", msb.SDKVersion())
			return a.noReleases("latest")
		},
	}
	cmd.Flags().BoolP("force", "f", false, "also if it is the newest")
	return cmd
}

// leastVersion is the oldest release whose data root ours can become.
var leastVersion = [3]uint64{0, 6, 0}

func (a *app) downgradeCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "downgrade <VERSION>", Short: "Say how to replace this program by an older one",
		RunE: func(_ *cobra.Command, args []string) error {
			target, err := parseVersion(args[0])
			if err != nil {
				return err
			}
			current, err := parseVersion(msb.SDKVersion())
			if err != nil {
				return err
			}
			text := fmt.Sprintf("v%d.%d.%d", target[0], target[1], target[2])
			fmt.Fprintf(a.Err, "info Current version: v%s\ninfo Target version: %s\n", msb.SDKVersion(), text)
			switch {
			case slices.Compare(target[:], leastVersion[:]) < 0:
				ui.Error(a.Err, text+" is below the supported downgrade floor", "minimum supported downgrade target: 0.6.0")
				return exitStatus(exitError)
			case slices.Compare(target[:], current[:]) >= 0:
				ui.Error(a.Err, text+" is not older than the current version", "use `msb self update` to move to the latest release")
				return exitStatus(exitError)
			}
			return a.noReleases(text)
		},
	}
	f := cmd.Flags()
	f.BoolP("yes", "y", false, "do not ask")
	f.BoolP("force", "f", false, "also if it is that version")
	f.Bool("keep-cache", false, "keep the images")
	f.Bool("no-backup", false, "make no copy of the database")
	return cmd
}

// parseVersion reads MAJOR.MINOR.PATCH, with or without a v before it.
func parseVersion(s string) (v [3]uint64, err error) {
	parts := strings.Split(strings.TrimPrefix(s, "v"), ".")
	for i := range v {
		if len(parts) == len(v) && err == nil {
			v[i], err = strconv.ParseUint(parts[i], 10, 32)
		}
	}
	if len(parts) != len(v) || err != nil {
		return v, fmt.Errorf("invalid version %q; expected MAJOR.MINOR.PATCH", s)
	}
	return v, nil
}

func (a *app) selfUninstallCmd() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "uninstall", Short: "Remove all sandboxes, images, volumes, snapshots and settings, and the links to msb",
		RunE: func(cmd *cobra.Command, _ []string) error {
			root, _ := msb.DataRoot() // settings that cannot be read do not matter
			if !yes {
				ok, err := a.confirm("Remove everything in "+root+"?", "use --yes to remove everything")
				if err != nil || !ok {
					return err
				}
			}
			report, err := msb.RemoveDataRoot(cmd.Context())
			if err != nil {
				return err
			}
			links := a.removeLinks(root)
			if report.Nothing && links == 0 {
				fmt.Fprintln(a.Err, "Nothing to uninstall.")
				return nil
			}
			ui.Done(a.Err, "Removed", root, 0)
			if len(report.Kept) > 0 {
				ui.Warn(a.Err, "not everything there is msb's: "+root+" stays, with "+strings.Join(report.Kept, " "))
			}
			fmt.Fprintln(a.Err, "done Uninstall complete.")
			if path, err := os.Executable(); err == nil {
				if _, err := os.Stat(path); err == nil {
					fmt.Fprintf(a.Err, "  → to be rid of the program as well: rm %s\n", ui.Plain(path))
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "remove everything without asking")
	return cmd
}

// removeLinks removes the links to programs of the data root from where users have their
// own programs, and returns how many.
func (a *app) removeLinks(root string) (n int) {
	user, err := os.UserHomeDir()
	if err != nil {
		return 0
	}
	for _, name := range []string{"msb", "microsandbox"} {
		link := filepath.Join(user, ".local", "bin", name)
		target, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(target, cmp.Or(root, "/")+string(filepath.Separator)) {
			continue
		}
		if err := os.Remove(link); err != nil {
			a.report(err)
			continue
		}
		ui.Done(a.Err, "Removed", link, 0)
		n++
	}
	return n
}
