package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/flagtype"
	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

func (a *app) volumeCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "volume", Aliases: []string{"vol"}, Short: "Manage named volumes", RunE: group}
	cmd.AddCommand(a.volumeCreateCmd(), a.volumeListCmd("list"), a.volumeInspectCmd(), a.volumeRemoveCmd())
	return cmd
}

func (a *app) volumeCreateCmd() *cobra.Command {
	var name, kind, size string
	var quiet bool
	cmd := &cobra.Command{
		Use: "create [POSITIONAL_NAME]", Short: "Create a named volume",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("kind", kind, "dir", "disk"); err != nil {
				return err
			}
			opts, err := volumeOptions(kind, size)
			if err != nil {
				return err
			}
			named := cmd.Flags().Changed("name")
			switch {
			case len(args) == 0 && !named:
				return errors.New("volume create requires a name")
			case len(args) == 1 && named && args[0] != name:
				return fmt.Errorf("volume name specified twice with different values: %s and %s", args[0], name)
			case len(args) == 1:
				name = args[0]
			}
			v, err := msb.CreateVolume(cmd.Context(), name, opts...)
			if err == nil && !quiet {
				fmt.Fprintln(a.Out, v.Name())
			}
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "the volume's name, instead of the argument")
	cmd.Flags().StringVar(&kind, "kind", "dir", "what it is: dir, a directory that sandboxes share, or disk, an ext4 disk that one has at a time")
	cmd.Flags().StringVar(&size, "size", "", "capacity of a disk, such as 512M or 10G")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing")
	return cmd
}

func volumeOptions(kind, size string) ([]msb.VolumeOption, error) {
	disk := kind == string(msb.VolumeKindDisk)
	switch {
	case disk && size == "":
		return nil, errors.New("--size is required with --kind disk")
	case !disk && size != "":
		return nil, errors.New("--size is only supported with --kind disk")
	case !disk:
		return nil, nil
	}
	mib, err := flagtype.MiB(size)
	if err != nil {
		return nil, fmt.Errorf("invalid --size: %w", err)
	}
	return []msb.VolumeOption{msb.WithVolumeKind(msb.VolumeKindDisk), msb.WithVolumeSize(mib)}, nil
}

func (a *app) volumeListCmd(use string) *cobra.Command {
	l := list[*msb.VolumeHandle]{
		json: func(v *msb.VolumeHandle) map[string]any {
			return map[string]any{"name": v.Name(), "kind": v.Kind(), "quota_mib": v.QuotaMiB(), "used_bytes": v.UsedBytes(), "capacity_bytes": v.CapacityBytes(),
				"disk_format": v.DiskFormat(), "disk_fstype": v.DiskFstype(), "created_at": timeJSON(v.CreatedAt())}
		},
		name: (*msb.VolumeHandle).Name, none: "No volumes found.",
		columns: []string{"NAME", "KIND", "SIZE", "CREATED"},
		row: func(v *msb.VolumeHandle) []string {
			return []string{v.Name(), string(v.Kind()), volumeSize(v, "-"), ui.Time(v.CreatedAt())}
		},
	}
	cmd := &cobra.Command{
		Use: use, Short: "List named volumes",
		RunE: func(cmd *cobra.Command, _ []string) error {
			volumes, err := msb.ListVolumes(cmd.Context())
			if err != nil {
				return err
			}
			return l.print(a, volumes)
		},
	}
	switch use {
	case "list":
		cmd.Aliases = []string{"ls"}
	case "volumes":
		cmd.Aliases = []string{"vols"}
	}
	l.flags(cmd, "names")
	return cmd
}

// volumeSize is a disk's capacity or a directory's quota; none if it has none.
func volumeSize(v *msb.VolumeHandle, none string) string {
	switch capacity, quota := v.CapacityBytes(), v.QuotaMiB(); {
	case capacity != nil:
		return mebibytes(*capacity >> 20)
	case quota != nil:
		return mebibytes(uint64(*quota))
	}
	return none
}

// mebibytes is a number of MiB as 0.6.18 writes it: exactly.
func mebibytes(mib uint64) string {
	if mib > 0 && mib%1024 == 0 {
		return strconv.FormatUint(mib/1024, 10) + " GiB"
	}
	return strconv.FormatUint(mib, 10) + " MiB"
}

func (a *app) volumeInspectCmd() *cobra.Command {
	return &cobra.Command{
		Use: "inspect <NAME>", Short: "Show everything known about a volume",
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := msb.GetVolume(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			line := func(key, value string) { fmt.Fprintf(a.Out, "%-15s %s\n", key+":", ui.Plain(value)) }
			path := v.Path()
			line("Name", v.Name())
			line("Kind", string(v.Kind()))
			if v.Kind() == msb.VolumeKindDisk {
				path += "/disk.raw"
				line("Format", orDash(v.DiskFormat()))
				line("Filesystem", orDash(v.DiskFstype()))
				line("Capacity", volumeSize(v, "-"))
			} else {
				line("Quota", volumeSize(v, "unlimited"))
			}
			line("Path", path)
			line("Created", ui.Time(v.CreatedAt()))
			var labels []string
			for _, k := range sorted(v.Labels()) {
				labels = append(labels, k+"="+v.Labels()[k])
			}
			text := strings.Join(labels, ", ")
			if len(labels) == 0 {
				text = "-"
			}
			line("Labels", text)
			return nil
		},
	}
}

func orDash(s *string) string {
	if s == nil {
		return "-"
	}
	return *s
}

func (a *app) volumeRemoveCmd() *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use: "remove <NAMES>...", Aliases: []string{"rm"}, Short: "Remove named volumes and all that is in them",
		RunE: func(cmd *cobra.Command, args []string) error {
			t := targets{quiet: quiet}
			return t.each(cmd.Context(), a, args, "Removed", quiet, msb.RemoveVolume)
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing")
	return cmd
}
