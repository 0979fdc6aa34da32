package microsandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/gomsb/gomsb/internal/store"
)

// savedSandbox is a sandbox at the moment at which its machine was saved: what a copy of
// it needs besides the checkpoint. Full snapshots have it in a file.
type savedSandbox struct {
	Version int             `json:"version"`
	Config  json.RawMessage `json:"config"` // what the machine used, in the form of the row
	Disks   []savedDisk     `json:"disks"`  // that the machine could write to, in their order
	// Files are the image's, by their names in the cache, in a full snapshot: what the guest
	// has read of them already must be what it reads in a copy.
	Files map[string]savedFile `json:"files,omitempty"`
}

// savedVersion is the version of savedSandbox.
const savedVersion = 1

// savedDisk is a disk that the machine could write to. A copy of the sandbox gets a copy of
// it in its own directory.
type savedDisk struct {
	Index  int    `json:"index"` // 0 is /dev/vda
	Guest  string `json:"guest"` // where it is mounted; empty: it is the root, or its changes
	Format string `json:"format"`
	Fstype string `json:"fstype,omitempty"`
	File   string `json:"file"` // in the directory of a copy
}

// saved describes a sandbox whose machine is about to be saved.
func (c *catalog) saved(ctx context.Context, row store.Sandbox) (*savedSandbox, error) {
	text := orDefault(row.ActiveConfig, row.Config)
	s, err := parseSpec(text)
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	out := &savedSandbox{Version: savedVersion, Config: json.RawMessage(text)}
	next := 0
	if root := s.Image.root(); root != nil {
		next = root.Index + 1
		if root.File != "" {
			out.Disks = append(out.Disks, *root)
		}
	}
	for _, m := range s.Mounts {
		d, err := c.mountedDisk(ctx, m)
		if err != nil {
			return nil, err
		}
		if d == nil {
			continue
		}
		d.Index = next
		d.File = fmt.Sprintf("disk-%d.%s", next, d.Format)
		next++
		if !m.Options.Readonly {
			out.Disks = append(out.Disks, *d)
		}
	}
	return out, nil
}

// root is the last disk of the root file system, without a File if the guest cannot write
// to it; nil if there is no disk at all.
func (i imageSource) root() *savedDisk {
	switch {
	case i.OCI != nil:
		switch d := i.OCI.RootDisk; d.Kind {
		case rootDiskManaged:
			return &savedDisk{Index: 1, Format: "raw", File: upperName}
		case rootDiskImage:
			format := strings.ToLower(d.Format)
			return &savedDisk{Index: 1, Format: format, Fstype: value(d.Fstype), File: "root." + format}
		case rootDiskFlat:
			return &savedDisk{Format: "raw", File: flatName}
		}
		return &savedDisk{}
	case i.Disk != nil:
		d := &savedDisk{Format: strings.ToLower(i.Disk.Format), Fstype: value(i.Disk.Fstype)}
		if d.Format != "vmdk" {
			d.File = "root." + d.Format
		}
		return d
	}
	return nil
}

// mountedDisk is the disk of a mount, without its place; nil if the mount is none.
func (c *catalog) mountedDisk(ctx context.Context, m mountSpec) (*savedDisk, error) {
	switch m.Type {
	case "DiskImage":
		return &savedDisk{Guest: m.Guest, Format: strings.ToLower(m.Format), Fstype: value(m.Fstype)}, nil
	case "Named":
		v, err := c.store.Volume(ctx, m.Name)
		if err != nil {
			return nil, volumeError(m.Name, err)
		}
		if v.Kind == string(VolumeKindDisk) {
			return &savedDisk{Guest: m.Guest, Format: orDefault(v.Format, "raw"), Fstype: orDefault(v.Fstype, "ext4")}, nil
		}
	}
	return nil, nil
}
