package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

func (a *app) imageCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Manage images", RunE: group}
	cmd.AddCommand(a.pullCmd(), a.imageListCmd("list"), a.imageInspectCmd(), a.loadCmd(), a.saveCmd(), a.imageRemoveCmd("remove"), a.imagePruneCmd())
	return cmd
}

func (a *app) loadCmd() *cobra.Command {
	var input string
	var tags []string
	var quiet bool
	cmd := &cobra.Command{
		Use: "load", Short: "Load images from a docker or OCI archive",
		RunE: func(cmd *cobra.Command, _ []string) error {
			begin := time.Now()
			var images []*msb.ImageHandle
			var err error
			if input == "" || input == "-" {
				if _, tty := ui.Terminal(a.In); tty {
					return usage("standard input is a terminal; name the archive with --input")
				}
				images, err = msb.Image.LoadFrom(cmd.Context(), a.In, tags...)
			} else {
				images, err = msb.Image.Load(cmd.Context(), input, tags...)
			}
			if err != nil {
				return err
			}
			for _, i := range images {
				if !quiet {
					ui.Done(a.Err, "Loaded", i.Reference(), time.Since(begin))
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "archive to read (default: standard input)")
	cmd.Flags().StringArrayVarP(&tags, "tag", "t", nil, "give the first image this reference too (repeatable)")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing")
	return cmd
}

func (a *app) imageListCmd(use string) *cobra.Command {
	l := list[*msb.ImageHandle]{
		json: imageJSON, name: (*msb.ImageHandle).Reference, none: "No images found.",
		columns: []string{"REFERENCE", "DIGEST", "SIZE", "CREATED"},
		row: func(i *msb.ImageHandle) []string {
			return []string{i.Reference(), shortDigest(i.ManifestDigest()), sizeOf(i), ui.Time(i.CreatedAt())}
		},
	}
	cmd := &cobra.Command{
		Use: use, Short: "List cached images",
		RunE: func(cmd *cobra.Command, _ []string) error {
			images, err := msb.Image.List(cmd.Context())
			if err != nil {
				return err
			}
			return l.print(a, images)
		},
	}
	if use == "list" {
		cmd.Aliases = []string{"ls"}
	}
	l.flags(cmd, "references")
	return cmd
}

func shortDigest(d string) string {
	algorithm, hex, ok := strings.Cut(d, ":")
	if !ok {
		return d
	}
	return algorithm + ":" + hex[:min(12, len(hex))]
}

func sizeOf(i *msb.ImageHandle) string {
	if n := i.SizeBytes(); n != nil {
		return ui.Size(*n)
	}
	return "-"
}

func imageJSON(i *msb.ImageHandle) map[string]any {
	return map[string]any{"reference": i.Reference(), "digest": i.ManifestDigest(), "size_bytes": i.SizeBytes(), "architecture": i.Architecture(),
		"os": i.OS(), "layer_count": i.LayerCount(), "created_at": timeJSON(i.CreatedAt())}
}

func (a *app) imageInspectCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "inspect <REFERENCE>", Short: "Show an image's configuration and layers",
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := msb.Image.Inspect(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				out := imageJSON(d.ImageHandle)
				c := d.Config
				out["config"] = map[string]any{"digest": c.Digest, "env": orNull(len(c.Env), c.Env), "cmd": orNull(len(c.Cmd), c.Cmd), "entrypoint": orNull(len(c.Entrypoint), c.Entrypoint),
					"working_dir": orNull(len(c.WorkingDir), c.WorkingDir), "user": orNull(len(c.User), c.User), "labels": orNull(len(c.Labels), c.Labels), "stop_signal": orNull(len(c.StopSignal), c.StopSignal)}
				layers := []map[string]any{}
				for _, l := range d.Layers {
					layers = append(layers, map[string]any{"diff_id": l.DiffID, "blob_digest": l.BlobDigest, "media_type": l.MediaType,
						"compressed_size_bytes": l.CompressedSizeBytes, "erofs_size_bytes": l.ErofsSizeBytes, "position": l.Position})
				}
				out["layers"] = layers
				return printJSON(a.Out, out)
			}
			a.describeImage(d)
			return nil
		},
	}
	formatFlag(cmd, &asJSON)
	return cmd
}

// orNull is v, or null in JSON if its length is zero.
func orNull(length int, v any) any {
	if length == 0 {
		return nil
	}
	return v
}

// describeImage prints what image inspect says to people.
func (a *app) describeImage(d *msb.ImageDetail) {
	line := func(format string, args ...any) { fmt.Fprintln(a.Out, ui.Plain(fmt.Sprintf(format, args...))) }
	or := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	c := d.Config
	line("%-15s %s", "Reference:", d.Reference())
	line("%-15s %s", "Digest:", d.ManifestDigest())
	line("%-15s %s", "Architecture:", d.Architecture())
	line("%-15s %s", "OS:", d.OS())
	line("%-15s %s", "Size:", sizeOf(d.ImageHandle))
	line("%-15s %s", "Created:", ui.Time(d.CreatedAt()))
	line("\nConfig")
	line("  %-13s %s", "Entrypoint:", or(strings.Join(c.Entrypoint, " ")))
	line("  %-13s %s", "Cmd:", or(strings.Join(c.Cmd, " ")))
	line("  %-13s %s", "WorkingDir:", or(c.WorkingDir))
	line("  %-13s %s", "User:", or(c.User))
	if len(c.Env) > 0 {
		line("  Env:")
	}
	for _, e := range c.Env {
		line("    %s", e)
	}
	if len(c.Labels) > 0 {
		line("  Labels:")
	}
	for _, k := range sorted(c.Labels) {
		line("    %s=%s", k, c.Labels[k])
	}
	line("\nLayers (%d)", len(d.Layers))
	for _, l := range d.Layers {
		size := "-"
		if l.CompressedSizeBytes != nil {
			size = ui.Size(*l.CompressedSizeBytes)
		}
		line("  %-3d %s  %-10s %s", l.Position+1, shortDigest(l.BlobDigest), size, l.MediaType)
	}
}

func (a *app) imageRemoveCmd(use string) *cobra.Command {
	var force, quiet bool
	cmd := &cobra.Command{
		Use: use + " <REFERENCES>...", Short: "Remove images from the cache",
		RunE: func(cmd *cobra.Command, args []string) error {
			failed := false
			for _, ref := range args {
				if err := msb.Image.Remove(cmd.Context(), ref, force); err != nil {
					failed = true
					if !quiet {
						a.report(advise(err, msb.ErrImageInUse, "remove those sandboxes first, or the image all the same with --force"))
					}
				} else if !quiet {
					ui.Done(a.Err, "Removed", ref, 0)
				}
			}
			if failed {
				return errors.New("some images failed to remove")
			}
			return nil
		},
	}
	if use == "remove" {
		cmd.Aliases = []string{"rm"}
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also if a sandbox uses it")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print no more than that something failed")
	return cmd
}
