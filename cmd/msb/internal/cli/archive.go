package cli

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

func (a *app) saveCmd() *cobra.Command {
	var format, output string
	var quiet bool
	cmd := &cobra.Command{
		Use: "save <REFERENCES>...", Short: "Save images to a docker or OCI archive",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("format", format, "docker", "oci"); err != nil {
				return err
			}
			begin := time.Now()
			if output == "" || output == "-" {
				if _, tty := ui.Terminal(a.Out); tty {
					return usage("standard output is a terminal; name a file with --output")
				}
				return msb.Image.SaveTo(cmd.Context(), args, a.Out, msb.ImageArchiveFormat(format))
			}
			if err := msb.Image.Save(cmd.Context(), args, output, msb.ImageArchiveFormat(format)); err != nil {
				return err
			}
			if !quiet {
				ui.Done(a.Err, "Saved", output, time.Since(begin))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&format, "format", "docker", "form of the archive: docker or oci")
	cmd.Flags().StringVarP(&output, "output", "o", "", "archive to write (default: standard output)")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing")
	return cmd
}

func (a *app) imagePruneCmd() *cobra.Command {
	var yes, asJSON, quiet bool
	cmd := &cobra.Command{
		Use: "prune", Short: "Remove cached images that no sandbox uses",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !yes {
				if ok, err := a.confirm("Remove all cached images that no sandbox uses?", "use --yes to prune cached images"); err != nil || !ok {
					return err
				}
			}
			begin := time.Now()
			r, err := msb.Image.Prune(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.Out, map[string]any{"image_refs_removed": r.ImageRefsRemoved, "manifests_removed": r.ManifestsRemoved, "layers_removed": r.LayersRemoved,
					"fsmeta_removed": r.FsmetaRemoved, "vmdk_removed": r.VMDKRemoved, "bytes_reclaimed": r.BytesReclaimed})
			}
			if quiet {
				return nil
			}
			if *r == (msb.ImagePruneReport{}) {
				fmt.Fprintln(a.Err, "Nothing to prune.")
				return nil
			}
			ui.Done(a.Err, "Pruned", "image cache", time.Since(begin))
			for _, line := range []struct {
				key   string
				count uint32
			}{{"Image refs:", r.ImageRefsRemoved}, {"Manifests:", r.ManifestsRemoved}, {"Layers:", r.LayersRemoved}, {"Fsmeta:", r.FsmetaRemoved}, {"VMDK:", r.VMDKRemoved}} {
				fmt.Fprintf(a.Out, "  %-13s %d\n", line.key, line.count)
			}
			if r.BytesReclaimed != nil {
				fmt.Fprintf(a.Out, "  %-13s %s\n", "Reclaimed:", ui.Size(int64(*r.BytesReclaimed)))
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	formatFlag(cmd, &asJSON)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing")
	return cmd
}

// confirm asks a question on the terminal; anything but yes is no. Without a terminal it
// fails and says what to do instead.
func (a *app) confirm(question, instead string) (bool, error) {
	if _, tty := ui.Terminal(a.In); !tty {
		return false, errors.New("non-interactive terminal; " + instead)
	}
	fmt.Fprintf(a.Err, "%s [y/N] ", question)
	answer, err := bufio.NewReader(a.In).ReadString('\n')
	if err != nil && answer == "" {
		return false, nil // the end of input
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}
