package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

func (a *app) snapshotCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "snapshot", Aliases: []string{"snap"}, Short: "Manage snapshots of sandboxes' disks and memory", RunE: group}
	cmd.AddCommand(a.snapshotCreateCmd(), a.snapshotListCmd("list"), a.snapshotInspectCmd(), a.snapshotVerifyCmd(), a.snapshotRemoveCmd(),
		a.snapshotReindexCmd(), a.snapshotSaveCmd(), a.snapshotLoadCmd())
	return cmd
}

func (a *app) snapshotCreateCmd() *cobra.Command {
	var o msb.SnapshotCreateOptions
	var labels []string
	var quiet bool
	cmd := &cobra.Command{
		Use: "create <NAME>", Short: "Make a snapshot of a stopped sandbox, or with --full of a running one",
		RunE: func(cmd *cobra.Command, args []string) error {
			begin := time.Now()
			o.Name, o.Labels = args[0], map[string]string{}
			for _, l := range labels {
				k, v, ok := strings.Cut(l, "=")
				if !ok {
					return fmt.Errorf("invalid --label '%s': expected K=V", l)
				}
				o.Labels[k] = v
			}
			s, err := msb.Snapshot.Create(cmd.Context(), o)
			if err != nil || quiet {
				err = advise(err, msb.ErrSnapshotAlreadyExists, "choose another name, or replace it with --force")
				return advise(err, msb.ErrSnapshotSandboxRunning, "stop it first, or save it as it runs with --full")
			}
			ui.Done(a.Err, "Snapshotted", o.FromSandbox, time.Since(begin))
			fmt.Fprintf(a.Out, "%s\n%s\n", s.Digest(), ui.Plain(s.Path()))
			return nil
		},
	}
	cmd.Flags().StringVar(&o.FromSandbox, "from", "", "the sandbox, which must not run, unless --full is given (required)")
	_ = cmd.MarkFlagRequired("from") // it was defined the line before
	cmd.Flags().StringVar(&o.DestDir, "dest-dir", "", "directory to make it in, instead of the folder of snapshots")
	cmd.Flags().StringArrayVar(&labels, "label", nil, "keep a label with it, K=V (repeatable)")
	cmd.Flags().BoolVarP(&o.Force, "force", "f", false, "replace a snapshot of the same name")
	cmd.Flags().BoolVar(&o.RecordIntegrity, "integrity", false, "hash the disk and the layers under it, so that changes can be found later")
	cmd.Flags().BoolVar(&o.Resumable, "full", false, "with memory and all disks, of a sandbox that runs or is paused and goes on")
	cmd.Flags().BoolVar(&o.Resumable, "resumable", false, "the same as --full")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing")
	return cmd
}

func (a *app) snapshotListCmd(use string) *cobra.Command {
	l := list[*msb.SnapshotHandle]{
		json: snapshotJSON, name: (*msb.SnapshotHandle).Digest, none: "No snapshots indexed.",
		columns: []string{"NAME", "SCOPE", "MIGRATION", "IMAGE", "SIZE", "CREATED", "DIGEST"},
		row: func(s *msb.SnapshotHandle) []string {
			scope, size := s.Scope(), snapshotSize(s.SizeBytes())
			if m := s.Memory(); m != nil {
				scope, size = "disk+memory", size+" + "+ui.Size(m.SizeBytes)
			}
			return []string{orDash(s.Name()), scope, s.MigrationState(), s.ImageRef(), size, ui.Time(s.CreatedAt()), shortDigest(s.Digest())}
		},
	}
	cmd := &cobra.Command{
		Use: use, Short: "List snapshots",
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := msb.Snapshot.List(cmd.Context())
			if err != nil {
				return err
			}
			return l.print(a, all)
		},
	}
	switch use {
	case "list":
		cmd.Aliases = []string{"ls"}
	case "snapshots":
		cmd.Aliases = []string{"snaps"}
	}
	l.flags(cmd, "digests")
	return cmd
}

func snapshotJSON(s *msb.SnapshotHandle) map[string]any {
	j := map[string]any{
		"digest": s.Digest(), "name": s.Name(), "parent_digest": s.ParentDigest(), "scope": s.Scope(), "state_kind": s.StateKind(), "image_ref": s.ImageRef(),
		"format": s.Format(), "fstype": s.Fstype(), "checkpoint_manifest_digest": s.CheckpointManifestDigest(), "size_bytes": s.SizeBytes(), "locality": s.Locality(),
		"availability": s.Availability(), "migration_state": s.MigrationState(), "migration_error_code": s.MigrationErrorCode(),
		"created_at": s.CreatedAt().UTC().Format("2006-01-02T15:04:05.999999999-07:00"), "artifact_path": s.Path(),
	}
	if m := s.Memory(); m != nil { // which other releases know nothing of
		j["memory"] = m
	}
	return j
}

func snapshotSize(n *uint64) string {
	if n == nil {
		return "-"
	}
	return ui.Size(int64(*n))
}

func (a *app) snapshotInspectCmd() *cobra.Command {
	var verify bool
	cmd := &cobra.Command{
		Use: "inspect <SNAPSHOT>", Short: "Show everything known about a snapshot",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := msb.Snapshot.Open(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			verification := ""
			if verify {
				if verification, err = verified(cmd.Context(), s); err != nil {
					return err
				}
			}
			a.describeSnapshot(s, verification)
			return nil
		},
	}
	cmd.Flags().BoolVar(&verify, "verify", false, "also compare the disk with its recorded integrity")
	return cmd
}

// keyValueLine prints one line of what inspect and verify say.
func (a *app) keyValueLine(key, value string) {
	fmt.Fprintf(a.Out, "%-15s %s\n", key+":", strings.ReplaceAll(ui.Plain(value), "\n", `\n`))
}

// describeSnapshot prints a snapshot for people; verification is empty if there was none.
func (a *app) describeSnapshot(s *msb.SnapshotArtifact, verification string) {
	created, _ := time.Parse(time.RFC3339Nano, s.CreatedAt()) // it was valid
	state := s.State()
	integrity := "not recorded"
	if state.File.HasIntegrity {
		integrity = state.File.Integrity.Algorithm + " " + state.File.Integrity.Digest
	}
	a.keyValueLine("Digest", s.Digest())
	a.keyValueLine("Path", s.Path())
	a.keyValueLine("Image", s.ImageRef())
	a.keyValueLine("Image Manifest", s.ImageManifestDigest())
	a.keyValueLine("Scope", s.Scope())
	a.keyValueLine("Parent", orDash(s.Parent()))
	a.keyValueLine("Created", ui.Time(created))
	a.keyValueLine("State", state.Kind)
	a.keyValueLine("Format", s.Format())
	a.keyValueLine("Filesystem", s.Fstype())
	a.keyValueLine("Upper File", state.File.UpperFile)
	a.keyValueLine("Upper Size", snapshotSize(s.SizeBytes()))
	a.keyValueLine("Upper On Disk", snapshotSize(s.AllocatedBytes()))
	a.keyValueLine("Integrity", integrity)
	if m := s.Memory(); m != nil {
		a.keyValueLine("Memory", fmt.Sprintf("%s, %d vCPU", memory(uint32(m.MemoryMiB)), m.VCPUs))
		a.keyValueLine("Memory On Disk", ui.Size(m.SizeBytes))
	}
	if verification != "" {
		a.keyValueLine("Verification", verification)
	}
	a.keyValueLine("Source Sandbox", orDash(s.SourceSandbox()))
	if labels := s.Labels(); len(labels) > 0 {
		var all []string
		for _, k := range sorted(labels) {
			all = append(all, k+"="+labels[k])
		}
		a.keyValueLine("Labels", strings.Join(all, ", "))
	}
}

// verified compares a snapshot with its recorded integrity and says what came of it.
func verified(ctx context.Context, s *msb.SnapshotArtifact) (string, error) {
	r, err := s.Verify(ctx)
	if err != nil {
		return "", err
	}
	text := "not recorded"
	if r.Upper.Kind != msb.SnapshotNotRecorded {
		text = fmt.Sprintf("verified (%s %s)", r.Upper.Algorithm, r.Upper.Digest)
	}
	if r.Memory == msb.SnapshotVerified {
		text += ", memory and disks verified by their checksums"
	}
	return text, nil
}

func (a *app) snapshotVerifyCmd() *cobra.Command {
	return &cobra.Command{
		Use: "verify <SNAPSHOT>", Short: "Compare a snapshot's disk with its recorded integrity, and its memory with its checksums",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := msb.Snapshot.Open(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			verification, err := verified(cmd.Context(), s)
			if err != nil {
				return err
			}
			a.keyValueLine("Digest", s.Digest())
			a.keyValueLine("Path", s.Path())
			a.keyValueLine("Verification", verification)
			return nil
		},
	}
}

func (a *app) snapshotRemoveCmd() *cobra.Command {
	var force, quiet bool
	cmd := &cobra.Command{
		Use: "remove <SNAPSHOTS>...", Aliases: []string{"rm"}, Short: "Remove snapshots",
		RunE: func(cmd *cobra.Command, args []string) error {
			t := targets{quiet: quiet}
			return t.each(cmd.Context(), a, args, "Removed", quiet, func(ctx context.Context, name string) error {
				return msb.Snapshot.Remove(ctx, name, force)
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also if other snapshots are made from it")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing")
	return cmd
}

func (a *app) snapshotReindexCmd() *cobra.Command {
	return &cobra.Command{
		Use: "reindex [DIR]", Short: "List anew what snapshots a directory has",
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := ""
			if len(args) == 1 {
				dir = args[0]
			}
			n, err := msb.Snapshot.Reindex(cmd.Context(), dir)
			if err != nil {
				return err
			}
			if dir == "" {
				if dir, err = msb.Snapshot.Dir(); err != nil {
					return err
				}
			}
			fmt.Fprintf(a.Out, "indexed %d snapshot(s) from %s\n", n, ui.Plain(dir))
			return nil
		},
	}
}

func (a *app) snapshotSaveCmd() *cobra.Command {
	var o msb.SnapshotSaveOptions
	cmd := &cobra.Command{
		Use: "save <SNAPSHOT> <OUT>", Short: "Save a snapshot to an archive",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := msb.Snapshot.Save(cmd.Context(), args[0], args[1], o); err != nil {
				return err
			}
			fmt.Fprintln(a.Out, ui.Plain(args[1]))
			return nil
		},
	}
	cmd.Flags().BoolVar(&o.WithParents, "with-parents", false, "the snapshots that it is made from, too")
	cmd.Flags().BoolVar(&o.WithImage, "with-image", false, "the image too, so that the other machine needs no registry")
	cmd.Flags().BoolVar(&o.PlainTar, "plain-tar", false, "do not compress")
	cmd.Flags().BoolVar(&o.DiskOnly, "disk-only", false, "without the memory of a full snapshot; microsandbox 0.6.18 loads no other archives")
	return cmd
}

func (a *app) snapshotLoadCmd() *cobra.Command {
	return &cobra.Command{
		Use: "load <ARCHIVE> [DEST]", Short: "Load a snapshot from an archive, with its image only from those you trust",
		RunE: func(cmd *cobra.Command, args []string) error {
			dest := ""
			if len(args) == 2 {
				dest = args[1]
			}
			s, err := msb.Snapshot.Load(cmd.Context(), args[0], dest)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.Out, "%s\n%s\n", s.Digest(), ui.Plain(s.Path()))
			return nil
		},
	}
}
