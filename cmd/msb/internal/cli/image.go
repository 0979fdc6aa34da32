package cli

import (
	"errors"
	"fmt"
	"strconv"
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
		Use: "load", Short: "Load images from a docker or OCI archive", Args: cobra.NoArgs,
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
	var asJSON, quiet bool
	cmd := &cobra.Command{
		Use: use, Short: "List cached images", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			images, err := msb.Image.List(cmd.Context())
			if err != nil {
				return err
			}
			switch {
			case asJSON:
				out := []map[string]any{}
				for _, i := range images {
					out = append(out, imageJSON(i))
				}
				return printJSON(a.Out, out)
			case quiet:
				for _, i := range images {
					fmt.Fprintln(a.Out, i.Reference())
				}
			case len(images) == 0:
				fmt.Fprintln(a.Err, "No images found.")
			default:
				var rows [][]string
				for _, i := range images {
					rows = append(rows, []string{i.Reference(), shortDigest(i.ManifestDigest()), sizeOf(i), ui.Time(i.CreatedAt())})
				}
				ui.Table(a.Out, []string{"REFERENCE", "DIGEST", "SIZE", "CREATED"}, rows)
			}
			return nil
		},
	}
	if use == "list" {
		cmd.Aliases = []string{"ls"}
	}
	formatFlag(cmd, &asJSON)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print references only")
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
		Use: "inspect REF", Short: "Show an image's configuration and layers", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := msb.Image.Inspect(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				out := imageJSON(d.ImageHandle)
				c := d.Config
				out["config"] = map[string]any{"digest": c.Digest, "env": c.Env, "cmd": c.Cmd, "entrypoint": c.Entrypoint, "working_dir": c.WorkingDir,
					"user": c.User, "labels": c.Labels, "stop_signal": c.StopSignal}
				layers := []map[string]any{}
				for _, l := range d.Layers {
					layers = append(layers, map[string]any{"diff_id": l.DiffID, "blob_digest": l.BlobDigest, "media_type": l.MediaType,
						"compressed_size_bytes": l.CompressedSizeBytes, "erofs_size_bytes": l.ErofsSizeBytes, "position": l.Position})
				}
				out["layers"] = layers
				return printJSON(a.Out, out)
			}
			line := func(key, value string) {
				if value != "" {
					fmt.Fprintf(a.Out, "%-13s %s\n", key+":", ui.Plain(value))
				}
			}
			line("Reference", d.Reference())
			line("Digest", d.ManifestDigest())
			line("Platform", d.OS()+"/"+d.Architecture())
			line("Size", sizeOf(d.ImageHandle))
			line("Layers", strconv.Itoa(len(d.Layers)))
			line("Entrypoint", strings.Join(d.Config.Entrypoint, " "))
			line("Cmd", strings.Join(d.Config.Cmd, " "))
			line("Workdir", d.Config.WorkingDir)
			line("User", d.Config.User)
			for _, e := range d.Config.Env {
				line("Env", e)
			}
			for _, k := range sorted(d.Config.Labels) {
				line("Label", k+"="+d.Config.Labels[k])
			}
			line("Created", ui.Time(d.CreatedAt()))
			return nil
		},
	}
	formatFlag(cmd, &asJSON)
	return cmd
}

func (a *app) imageRemoveCmd(use string) *cobra.Command {
	var force, quiet bool
	cmd := &cobra.Command{
		Use: use + " REF...", Short: "Remove images from the cache", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			failed := false
			for _, ref := range args {
				if err := msb.Image.Remove(cmd.Context(), ref, force); err != nil {
					failed = true
					a.report(err)
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
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print errors only")
	return cmd
}
