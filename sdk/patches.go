package microsandbox

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"unicode/utf8"

	"github.com/gomsb/gomsb/rootfs/erofs"
	"github.com/gomsb/gomsb/rootfs/ext4"
	"github.com/gomsb/gomsb/rootfs/patch"
	"github.com/gomsb/gomsb/rootfs/stitch"
	"github.com/gomsb/gomsb/rootfs/tree"
)

// PatchKind says what a PatchConfig is.
type PatchKind string

// Kinds of patch.
const (
	PatchKindText     PatchKind = "text"
	PatchKindAppend   PatchKind = "append"
	PatchKindMkdir    PatchKind = "mkdir"
	PatchKindRemove   PatchKind = "remove"
	PatchKindSymlink  PatchKind = "symlink"
	PatchKindCopyFile PatchKind = "copy_file"
	PatchKindCopyDir  PatchKind = "copy_dir"
)

// PatchConfig is a change of the root file system before the first start, made by Patch.
type PatchConfig struct {
	Kind    PatchKind
	Path    string  // in the guest, absolute, as Dst and Link
	Content string  // any bytes
	Mode    *uint32 // permission bits; nil is 0644, 0755 for a directory, the source's for a copy
	Replace bool    // a file that is there already
	Src     string  // on the host
	Dst     string
	Target  string // of a symbolic link
	Link    string
}

// PatchOptions are the options of a patch. Those that a kind does not have are ignored.
type PatchOptions struct {
	Mode    *uint32
	Replace bool
}

type patchFactory struct{}

// Patch makes PatchConfig values. What patches make belongs to root. They are made in
// their order, when the sandbox is created.
var Patch patchFactory

// Text makes a file with the given content.
func (patchFactory) Text(path, content string, o PatchOptions) PatchConfig {
	return PatchConfig{Kind: PatchKindText, Path: path, Content: content, Mode: o.Mode, Replace: o.Replace}
}

// Append adds to the end of a file that is there.
func (patchFactory) Append(path, content string) PatchConfig {
	return PatchConfig{Kind: PatchKindAppend, Path: path, Content: content}
}

// Mkdir makes a directory unless it is there.
func (patchFactory) Mkdir(path string, o PatchOptions) PatchConfig {
	return PatchConfig{Kind: PatchKindMkdir, Path: path, Mode: o.Mode}
}

// Remove removes a file, or a directory and all in it, if it is there.
func (patchFactory) Remove(path string) PatchConfig {
	return PatchConfig{Kind: PatchKindRemove, Path: path}
}

// Symlink makes a symbolic link.
func (patchFactory) Symlink(target, link string, o PatchOptions) PatchConfig {
	return PatchConfig{Kind: PatchKindSymlink, Target: target, Link: link, Replace: o.Replace}
}

// CopyFile copies a file of the host.
func (patchFactory) CopyFile(src, dst string, o PatchOptions) PatchConfig {
	return PatchConfig{Kind: PatchKindCopyFile, Src: src, Dst: dst, Mode: o.Mode, Replace: o.Replace}
}

// CopyDir copies a directory of the host; with Replace into one that may be there.
func (patchFactory) CopyDir(src, dst string, o PatchOptions) PatchConfig {
	return PatchConfig{Kind: PatchKindCopyDir, Src: src, Dst: dst, Replace: o.Replace}
}

// WithPatches changes the root file system before the first start: of an OCI image with a
// managed root disk, or of a directory of the host.
func WithPatches(patches ...PatchConfig) SandboxOption {
	return func(c *SandboxConfig) { c.Patches = append(c.Patches, patches...) }
}

var patchKinds = map[PatchKind]patch.Kind{
	PatchKindText: patch.Text, PatchKindAppend: patch.Append, PatchKindMkdir: patch.Mkdir, PatchKindRemove: patch.Remove,
	PatchKindSymlink: patch.Symlink, PatchKindCopyFile: patch.CopyFile, PatchKindCopyDir: patch.CopyDir,
}

// stored is the patch as the catalogue keeps it.
func (p PatchConfig) stored() patch.Patch {
	s := patch.Patch{
		Kind: patchKinds[p.Kind], Path: p.Path, Content: []byte(p.Content), Mode: p.Mode, Replace: p.Replace, Src: p.Src, Dst: p.Dst, Target: p.Target, Link: p.Link,
	}
	if s.Kind == patch.Text && !utf8.ValidString(p.Content) {
		s.Kind = patch.File
	}
	return s
}

// patchConfig is the inverse of stored.
func patchConfig(s patch.Patch) PatchConfig {
	p := PatchConfig{
		Kind: PatchKindText, Path: s.Path, Content: string(s.Content), Mode: s.Mode, Replace: s.Replace, Src: s.Src, Dst: s.Dst, Target: s.Target, Link: s.Link,
	}
	for kind, stored := range patchKinds {
		if stored == s.Kind {
			p.Kind = kind
		}
	}
	return p
}

// validatePatches checks everything that needs no look at the host.
func (c *SandboxConfig) validatePatches() error {
	if len(c.Patches) == 0 {
		return nil
	}
	switch {
	case c.Snapshot != "":
		return fail(ErrInvalidConfig, "patches cannot be combined with a snapshot, which has the changes to its root already")
	case isDiskImage(c.Image):
		return fail(ErrInvalidConfig, "patches are not compatible with disk image rootfs")
	case c.RootDisk != nil && c.RootDisk.kind != RootDiskKindManaged:
		return fail(ErrInvalidConfig, "patches require a managed root disk (they are baked into the upper at create time)")
	}
	for _, p := range c.Patches {
		s := p.stored()
		if err := s.Validate(); err != nil {
			return &Error{Kind: ErrInvalidConfig, Cause: err}
		}
		if s.Kind == patch.Append && !utf8.ValidString(p.Content) {
			return fail(ErrInvalidConfig, "append %s: the content is not text", p.Path)
		}
	}
	return nil
}

// setPatches stores the patches, with sources that do not depend on the working directory.
func (s *spec) setPatches(c *SandboxConfig) error {
	for _, p := range c.Patches {
		if p.Src != "" {
			abs, err := filepath.Abs(p.Src)
			if err != nil {
				return wrap(ErrInvalidConfig, err)
			}
			p.Src = abs
		}
		text, err := json.Marshal(p.stored())
		if err != nil {
			return wrap(ErrInvalidConfig, err)
		}
		s.Patches = append(s.Patches, text)
	}
	return nil
}

// patches decodes what is stored.
func (s *spec) patches() ([]patch.Patch, error) {
	patches := make([]patch.Patch, len(s.Patches))
	for i, text := range s.Patches {
		if err := json.Unmarshal(text, &patches[i]); err != nil {
			return nil, wrap(ErrInvalidConfig, err)
		}
	}
	return patches, nil
}

// patchFailed is the error for a patch that could not be made.
func patchFailed(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return wrap(ErrCancelled, err)
	}
	return &Error{Kind: ErrPatchFailed, Message: "patch failed", Cause: err}
}

// bakedUpper calls use with the tree of a new upper: the patches, over a root with the
// attributes of the image's.
func (b *boot) bakedUpper(ctx context.Context, use func(*tree.Tree) error) (err error) {
	patches, err := b.spec.patches()
	if err != nil {
		return err
	}
	disk, err := stitch.Open(b.vmdk)
	if err != nil {
		return wrap(ErrIO, err)
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	image, err := erofs.NewReader(ctxReaderAt{ctx, disk}, disk.Size())
	if err != nil {
		return wrap(ErrIO, err)
	}
	changes, err := patch.Bake(ctx, patches, patch.Image(image))
	if err != nil {
		return patchFailed(err)
	}
	return use(ext4.Upper(changes))
}

// patchDirectory makes the patches to a root that is a directory of the host.
func (b *boot) patchDirectory(ctx context.Context) error {
	if b.spec.Image.Bind == nil || len(b.spec.Patches) == 0 {
		return nil
	}
	patches, err := b.spec.patches()
	if err != nil {
		return err
	}
	return patchFailed(patch.Apply(ctx, patches, b.spec.Image.Bind.Path))
}
