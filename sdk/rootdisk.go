package microsandbox

import (
	"path/filepath"
	"strings"
)

// RootDiskKind says what a RootDiskConfig is.
type RootDiskKind uint8

// Kinds of root disk; RootDiskKindManaged is the default.
const (
	// RootDiskKindManaged is a sparse disk of the sandbox's own, which lives as long as it.
	RootDiskKindManaged RootDiskKind = 1
	// RootDiskKindTmpfs is guest memory: each start finds the image as it is.
	RootDiskKindTmpfs RootDiskKind = 2
	// RootDiskKindDiskImage is a file of the caller's, which is never created, resized or
	// removed.
	RootDiskKindDiskImage RootDiskKind = 3
	// RootDiskKindFlat is a disk of the sandbox's own with a copy of the whole image.
	RootDiskKindFlat RootDiskKind = 4
)

// FlatClone says how a flat root disk is made from the image's.
type FlatClone string

// The ways of FlatClone; the default is auto.
const (
	FlatCloneAuto    FlatClone = "auto"    // share the blocks where the host's file system can
	FlatCloneCopy    FlatClone = "copy"    // copy them
	FlatCloneReflink FlatClone = "reflink" // share them, or fail
)

// RootDiskConfig is where the writable part of an OCI root lives, made by RootDisk.
type RootDiskConfig struct {
	// SizeMiB is the size of a managed disk (0 = 4096), of a tmpfs (0 = half of guest
	// memory), or of a flat disk (0 = 4096 or what the image needs).
	SizeMiB uint32
	Path    string    // of a disk image
	Format  string    // of a disk image: raw or qcow2; "" goes by the name
	Fstype  string    // of a disk image or flat disk; "" = ext4
	Clone   FlatClone // of a flat disk

	kind RootDiskKind
}

// Kind tells what it is.
func (d RootDiskConfig) Kind() RootDiskKind { return d.kind }

type rootDiskFactory struct{}

// RootDisk makes RootDiskConfig values.
var RootDisk rootDiskFactory

// Managed keeps what the sandbox writes on a disk of its own; 0 stands for 4096 MiB. Space
// of the host is taken as it is written.
func (rootDiskFactory) Managed(mib uint32) RootDiskConfig {
	return RootDiskConfig{kind: RootDiskKindManaged, SizeMiB: mib}
}

// RootDiskTmpfsOptions are the options of a root disk in guest memory.
type RootDiskTmpfsOptions struct{ SizeMiB uint32 }

// Tmpfs keeps what the sandbox writes in guest memory until it stops.
func (rootDiskFactory) Tmpfs(o RootDiskTmpfsOptions) RootDiskConfig {
	return RootDiskConfig{kind: RootDiskKindTmpfs, SizeMiB: o.SizeMiB}
}

// RootDiskImageOptions are the options of a root disk in a file of the caller's. Format is
// raw or qcow2; "" goes by the file's name. Fstype "" is ext4.
type RootDiskImageOptions struct{ Format, Fstype string }

// Disk keeps what the sandbox writes in a disk image that holds a file system.
func (rootDiskFactory) Disk(path string, o RootDiskImageOptions) RootDiskConfig {
	return RootDiskConfig{kind: RootDiskKindDiskImage, Path: path, Format: o.Format, Fstype: o.Fstype}
}

// RootDiskFlatOptions are the options of a flat root disk. Fstype can only be ext4.
type RootDiskFlatOptions struct {
	SizeMiB uint32
	Fstype  string
	Clone   FlatClone
}

// Flat gives the sandbox a disk of its own that holds a copy of the whole image.
func (rootDiskFactory) Flat(o RootDiskFlatOptions) RootDiskConfig {
	return RootDiskConfig{kind: RootDiskKindFlat, SizeMiB: o.SizeMiB, Fstype: o.Fstype, Clone: o.Clone}
}

// WithRootDisk chooses where the writable part of an OCI root lives.
func WithRootDisk(d RootDiskConfig) SandboxOption {
	return func(c *SandboxConfig) { c.RootDisk = &d }
}

// WithOCIUpperSize is WithRootDisk(RootDisk.Managed(mib)).
//
// Deprecated: use WithRootDisk.
func WithOCIUpperSize(mib uint32) SandboxOption {
	return func(c *SandboxConfig) { c.RootDisk, c.OCIUpperSizeMiB = nil, mib }
}

// sizeUpper turns OCIUpperSizeMiB into the root disk that it stands for.
func (c *SandboxConfig) sizeUpper() {
	if c.RootDisk == nil && c.OCIUpperSizeMiB != 0 {
		disk := RootDisk.Managed(c.OCIUpperSizeMiB)
		c.RootDisk = &disk
	}
}

// defaultRootDiskMiB is the size of a managed disk that asks for none.
const defaultRootDiskMiB = 4096

// The kinds of root disk, as stored.
const (
	rootDiskManaged = "managed"
	rootDiskTmpfs   = "tmpfs"
	rootDiskImage   = "disk-image"
	rootDiskFlat    = "flat"
)

var rootDiskKinds = map[string]RootDiskKind{
	rootDiskManaged: RootDiskKindManaged, rootDiskTmpfs: RootDiskKindTmpfs, rootDiskImage: RootDiskKindDiskImage, rootDiskFlat: RootDiskKindFlat,
}

// rootDisk is a RootDiskConfig as stored; Kind says which of the fields belong to it.
type rootDisk struct {
	Kind    string  `json:"kind"`
	SizeMiB *uint32 `json:"size_mib,omitempty"`
	Path    string  `json:"path,omitempty"`
	Format  string  `json:"format,omitempty"` // Raw or Qcow2
	Fstype  *string `json:"fstype,omitempty"`
	Clone   string  `json:"clone,omitempty"` // copy or reflink; else auto
}

// IsZero reports a disk that is stored as none: one of the sandbox's own that has the size
// it has.
func (d rootDisk) IsZero() bool { return d == rootDisk{Kind: rootDiskManaged} }

// validate checks everything that needs no look at the host.
func (d *RootDiskConfig) validate(c *SandboxConfig) error {
	switch {
	case d == nil:
		return nil
	case c.ImageBind != "" || isDiskImage(c.Image):
		return fail(ErrInvalidConfig, "a root disk goes with an OCI image, and %s is none", c.ImageBind+c.Image)
	case strings.ContainsAny(d.Fstype, ",;:=\x00"):
		return fail(ErrInvalidConfig, "root disk: %q is not the name of a file system", d.Fstype)
	}
	switch d.kind {
	case RootDiskKindManaged:
		return nil
	case RootDiskKindTmpfs:
		if memory := orDefault(c.MemoryMiB, defaultMemoryMiB); d.SizeMiB > memory {
			return fail(ErrInvalidConfig, "a tmpfs root disk of %d MiB does not fit into %d MiB of memory", d.SizeMiB, memory)
		}
		return nil
	case RootDiskKindDiskImage:
		_, err := d.imageFormat()
		return err
	case RootDiskKindFlat:
		return d.validateFlat()
	}
	return fail(ErrInvalidConfig, "a root disk is made by RootDisk.Managed, Tmpfs, Disk or Flat")
}

func (d *RootDiskConfig) validateFlat() error {
	switch {
	case d.Fstype != "" && d.Fstype != "ext4":
		return fail(ErrInvalidConfig, "flat root disks are ext4, not %s", d.Fstype)
	case d.Clone != "" && d.Clone != FlatCloneAuto && d.Clone != FlatCloneCopy && d.Clone != FlatCloneReflink:
		return fail(ErrInvalidConfig, "flat root disk: unknown clone strategy %q: use auto, copy or reflink", d.Clone)
	}
	return nil
}

// imageFormat is the format of a disk image as stored, which is never guessed from what
// is in the file: a guest may have written that.
func (d *RootDiskConfig) imageFormat() (string, error) {
	format := d.Format
	if format == "" {
		switch filepath.Ext(d.Path) {
		case ".img", ".raw":
			format = "raw"
		case ".qcow2":
			format = "qcow2"
		}
	}
	switch {
	case d.Path == "" || strings.ContainsRune(d.Path, 0):
		return "", fail(ErrInvalidConfig, "a root disk image needs a path")
	case format == "raw":
		return "Raw", nil
	case format == "qcow2":
		return "Qcow2", nil
	case format == "vmdk":
		return "", fail(ErrInvalidConfig, "root disk %s: a vmdk cannot be written: use raw or qcow2", d.Path)
	case format == "":
		return "", fail(ErrInvalidConfig, "root disk %s: its name does not tell the format: give raw or qcow2", d.Path)
	}
	return "", fail(ErrInvalidConfig, "root disk %s: unknown format %q: use raw or qcow2", d.Path, format)
}

// stored is what the catalogue keeps of d, nil for the default.
func (d *RootDiskConfig) stored() (rootDisk, error) {
	if d == nil {
		d = &RootDiskConfig{kind: RootDiskKindManaged}
	}
	switch d.kind {
	case RootDiskKindTmpfs:
		return rootDisk{Kind: rootDiskTmpfs, SizeMiB: pointer(d.SizeMiB)}, nil
	case RootDiskKindDiskImage:
		format, err := d.imageFormat()
		if err != nil {
			return rootDisk{}, err
		}
		abs, err := filepath.Abs(d.Path)
		if err != nil {
			return rootDisk{}, wrap(ErrInvalidConfig, err)
		}
		return rootDisk{Kind: rootDiskImage, Path: abs, Format: format, Fstype: pointer(d.Fstype)}, checkDiskImage(abs)
	case RootDiskKindFlat:
		s := rootDisk{Kind: rootDiskFlat, SizeMiB: pointer(d.SizeMiB), Fstype: pointer(d.Fstype)}
		if d.Clone != FlatCloneAuto {
			s.Clone = string(d.Clone)
		}
		return s, nil
	}
	return rootDisk{Kind: rootDiskManaged, SizeMiB: pointer(orDefault(d.SizeMiB, defaultRootDiskMiB))}, nil
}

// rootDefaults are the root disks of sandboxes that ask for none, by config.json. At most
// one of both is given.
type rootDefaults struct {
	RootDisk     *rootDisk `json:"root_disk"`
	UpperSizeMiB *uint32   `json:"upper_size_mib"` // of a managed disk
}

// config is the default as a caller would ask for it, nil for none.
func (d rootDefaults) config() (*RootDiskConfig, error) {
	switch {
	case d.RootDisk != nil && d.UpperSizeMiB != nil:
		return nil, fail(ErrInvalidConfig, "config.json: sandbox_defaults.oci has both root_disk and upper_size_mib: choose one")
	case d.UpperSizeMiB != nil:
		return &RootDiskConfig{kind: RootDiskKindManaged, SizeMiB: *d.UpperSizeMiB}, nil
	case d.RootDisk == nil:
		return nil, nil
	case d.RootDisk.Kind == rootDiskImage:
		return nil, fail(ErrInvalidConfig, "config.json: sandbox_defaults.oci.root_disk is a disk image, which several sandboxes cannot share")
	case rootDiskKinds[d.RootDisk.Kind] == 0:
		return nil, fail(ErrInvalidConfig, "config.json: sandbox_defaults.oci.root_disk: unknown kind %q: use managed, tmpfs or flat", d.RootDisk.Kind)
	}
	return d.RootDisk.config(), nil
}

// setDefaultRootDisk makes config.json's choice where the caller made none.
func (h home) setDefaultRootDisk(c *SandboxConfig) error {
	if c.RootDisk != nil {
		return nil
	}
	disk, err := h.settings.SandboxDefaults.OCI.config()
	if err == nil {
		c.RootDisk = disk
		err = c.RootDisk.validate(c)
	}
	if err == nil {
		err = c.validatePatches()
	}
	return err
}

// config is the inverse of stored.
func (d rootDisk) config() *RootDiskConfig {
	return &RootDiskConfig{
		kind: rootDiskKinds[d.Kind], SizeMiB: value(d.SizeMiB), Path: d.Path, Format: strings.ToLower(d.Format), Fstype: value(d.Fstype), Clone: FlatClone(d.Clone),
	}
}
