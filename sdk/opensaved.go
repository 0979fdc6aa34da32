package microsandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gomsb/gomsb/internal/checkpoint"
	"github.com/gomsb/gomsb/snapshot"
	"github.com/gomsb/gomsb/snapshot/format"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

// openSaved opens what a full snapshot has of a sandbox, and reports whether this data root
// made it. What is not what the snapshot's identity says is ErrSnapshotIntegrity.
func (h home) openSaved(ctx context.Context, a *snapshot.Artefact) (s *savedSandbox, own bool, err error) {
	damaged := func(cause error) error {
		return &Error{Kind: ErrSnapshotIntegrity, Message: "the memory of snapshot " + a.Path + " is damaged: start from its disk alone, or make it anew", Cause: cause}
	}
	e, _ := a.Descriptor.Extensions[checkpointExtension].(map[string]any)
	dir := a.Checkpoint()
	switch {
	case e == nil && dir == "":
		return nil, false, fail(ErrUnsupportedOperation, "snapshot %s holds a disk and no memory: create a sandbox from it instead", a.Path)
	case dir == "":
		return nil, false, fail(ErrUnsupportedOperation, "the memory of snapshot %s is not here: it was saved or copied without; start from its disk alone", a.Path)
	case e == nil:
		return nil, false, damaged(errors.New("its description knows of none"))
	}
	sums, err := checkpointSums(ctx, dir)
	if ctx.Err() != nil {
		return nil, false, cancelled(ctx)
	}
	if err != nil {
		return nil, false, damaged(err)
	}
	for key, sum := range sums {
		if e[key] != sum {
			return nil, false, damaged(fmt.Errorf("its %s is not the one that was saved", sumNames[key]))
		}
	}
	text, err := readSmall(filepath.Join(dir, savedName))
	if err != nil {
		return nil, false, damaged(err)
	}
	s = &savedSandbox{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, false, damaged(err)
	}
	if s.Version != savedVersion {
		return nil, false, fail(ErrUnsupportedOperation, "snapshot %s is of a newer gomsb: use the one that made it, or start from its disk alone", a.Path)
	}
	return s, h.isOwn(dir, sums), s.check(a)
}

// check refuses what no sandbox can be.
func (s *savedSandbox) check(a *snapshot.Artefact) error {
	bad := func(format string, args ...any) error {
		return fail(ErrSnapshotIntegrity, "snapshot %s: the sandbox in it %s", a.Path, fmt.Sprintf(format, args...))
	}
	old, err := parseSpec(string(s.Config))
	if err != nil {
		return bad("has no configuration: %v", err)
	}
	if old.Image.OCI == nil || value(old.ManifestDigest) != a.Descriptor.ImageManifestDigest {
		return bad("has another image")
	}
	if kind := old.Image.OCI.RootDisk.Kind; kind != rootDiskManaged {
		return bad("has a root disk of kind %q", kind)
	}
	for _, m := range old.Mounts {
		if err := m.config().validate(m.Guest); err != nil {
			return bad("cannot be: %v", err)
		}
	}
	for k := range old.Labels {
		if err := checkLabel(k); err != nil {
			return bad("cannot be: %v", err)
		}
	}
	files, guests := map[string]bool{}, map[string]bool{}
	for _, d := range s.Disks {
		switch {
		case d.File != filepath.Base(d.File) || d.File == "." || d.File == ".." || d.File == unbornName || d.Format != "raw" && d.Format != "qcow2":
			return bad("has a disk %q of format %q", d.File, d.Format)
		case files[d.File] || guests[d.Guest] || (d.File == upperName) != (d.Guest == ""):
			return bad("has a disk %q too many, on %q", d.File, d.Guest)
		}
		files[d.File], guests[d.Guest] = true, true
	}
	if !files[upperName] {
		return bad("has no root disk")
	}
	return nil
}

// readSmall reads a regular file of at most maxSavedSize bytes.
func readSmall(path string) ([]byte, error) {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	return sparse.ReadIn(root, filepath.Base(path), maxSavedSize)
}

// verifyMemory reads the memory and the disks of a full snapshot and compares them with
// their checksums. If seal is set, it also notes that the memory is right, so that nobody
// has to read all of it again.
func (h home) verifyMemory(ctx context.Context, a *snapshot.Artefact, seal bool) error {
	s, _, err := h.openSaved(ctx, a)
	if err != nil {
		return err
	}
	dir := a.Checkpoint()
	k := &child{disks: s.Disks}
	if err := k.goesOn(dir, a.Payload()); err != nil {
		return err
	}
	for i := range k.disks {
		if err := k.manifest.Disks[i].VerifyAt(ctx, k.diskPath(i)); err != nil {
			return checkpointError(err)
		}
	}
	m, err := format.Open(ctx, checkpoint.MachineDir(dir))
	if err != nil {
		return checkpointError(err)
	}
	if seal {
		err = m.Seal(ctx)
	} else {
		err = m.Verify(ctx)
	}
	return checkpointError(errors.Join(err, m.Close()))
}
