package microsandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"github.com/gomsb/gomsb/internal/atomicfile"
	"github.com/gomsb/gomsb/internal/checkpoint"
	"github.com/gomsb/gomsb/internal/store"
	"github.com/gomsb/gomsb/snapshot"
	"github.com/gomsb/gomsb/snapshot/format"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

// checkpointExtension is the extension of a full snapshot's descriptor: what binds the files
// of its checkpoint to its identity, and what lists tell of it. Other releases pass over it,
// and see a snapshot of a disk.
const checkpointExtension = "gomsb.checkpoint"

// Files of a full snapshot's checkpoint that package checkpoint knows nothing of.
const (
	savedName  = "sandbox.json" // a savedSandbox
	originName = "origin"       // see originOf; it stays on the host
)

// maxSavedSize bounds the files that are read into memory, bytes.
const maxSavedSize = 16 << 20

// SnapshotMemory tells of the machine in a full snapshot.
type SnapshotMemory struct {
	VCPUs     int   `json:"vcpus"`
	MemoryMiB int   `json:"memory_mib"` // that it has at most
	SizeBytes int64 `json:"size_bytes"` // that its files take on the host now, without the root's disk
}

// snapshotMemory is what a snapshot has of a machine, nil for none.
func snapshotMemory(a *snapshot.Artefact) *SnapshotMemory {
	e, _ := a.Descriptor.Extensions[checkpointExtension].(map[string]any)
	if e == nil || a.Checkpoint() == "" {
		return nil
	}
	number := func(key string) int {
		n, _ := e[key].(json.Number)
		v, _ := n.Int64() // 0 for none
		return int(v)
	}
	m := &SnapshotMemory{VCPUs: number("vcpus"), MemoryMiB: number("memory_mib")}
	_ = filepath.WalkDir(a.Checkpoint(), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // as far as it can be told
		}
		if info, err := d.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				m.SizeBytes += st.Blocks * 512
			}
		}
		return nil
	})
	return m
}

// fullConfig describes a running sandbox as the source of a full snapshot, which is filled
// with what its runtime saves.
func (c *catalog) fullConfig(ctx context.Context, row store.Sandbox) (snapshot.Config, error) {
	if err := c.canBeSaved(ctx, row); err != nil {
		return snapshot.Config{}, err
	}
	cfg, err := snapshotConfigOf(row.Name, orDefault(row.ActiveConfig, row.Config))
	if err != nil {
		return cfg, err
	}
	saved, err := c.saved(ctx, row)
	if err != nil {
		return cfg, err
	}
	saved.Config = json.RawMessage(withoutValues(string(saved.Config)))
	if saved.Files, err = c.home.imageSums(ctx, cfg); err != nil {
		return cfg, err
	}
	f := &filling{catalog: c, row: row, saved: saved}
	cfg.Fill = f.fill
	return cfg, nil
}

// filling makes the content of one full snapshot.
type filling struct {
	*catalog
	row   store.Sandbox
	saved *savedSandbox
}

// fill implements snapshot.Config.Fill.
func (f *filling) fill(ctx context.Context, dir string) (map[string]any, error) {
	at := filepath.Join(dir, snapshot.CheckpointName)
	if err := f.save(ctx, f.row, at); err != nil {
		return nil, err
	}
	k := &child{disks: f.saved.Disks}
	if err := k.goesOn(at, ""); err != nil {
		return nil, err
	}
	for i, d := range f.saved.Disks {
		if d.Guest == "" {
			if err := os.Rename(k.manifest.Disks[i].Path(at), filepath.Join(dir, snapshot.PayloadName)); err != nil {
				return nil, err
			}
		}
	}
	text, err := json.Marshal(f.saved)
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	if err := atomicfile.Write(filepath.Join(at, savedName), text, 0o600); err != nil {
		return nil, err
	}
	sums, err := checkpointSums(ctx, at)
	if err != nil {
		return nil, err
	}
	origin, err := f.home.originOf(sums)
	if err != nil {
		return nil, err
	}
	if err := atomicfile.Write(filepath.Join(at, originName), []byte(origin), 0o600); err != nil {
		return nil, err
	}
	if err := sparse.SyncDir(filepath.Join(at, "disks")); err != nil {
		return nil, err
	}
	e := map[string]any{"vcpus": decimalNumber(k.manifest.VCPUs), "memory_mib": decimalNumber(k.manifest.MaxMemoryMiB)}
	for name, sum := range sums {
		e[name] = sum
	}
	return map[string]any{checkpointExtension: e}, nil
}

func decimalNumber(n int) json.Number { return json.Number(fmt.Sprint(n)) }

// sumNames are the keys of the extension for the sums of files, and the files.
var sumNames = map[string]string{"manifest": "manifest.json", "sandbox": savedName, "machine": "machine/machine"}

// checkpointSums are the sums that bind a checkpoint to a snapshot's identity. That of the
// machine covers the checksums of memory, and the manifest has those of disks.
func checkpointSums(ctx context.Context, dir string) (map[string]string, error) {
	sums := map[string]string{}
	for key, name := range sumNames {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if info, err := os.Lstat(path); err != nil {
			return nil, err
		} else if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s: %w", path, sparse.ErrNotRegular)
		}
		sum, err := fileSum(ctx, path)
		if err != nil {
			return nil, err
		}
		sums[key] = sum
	}
	return sums, nil
}

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
	roots := 0
	for _, d := range s.Disks {
		if d.File != filepath.Base(d.File) || d.File == "." || d.File == ".." || d.File == unbornName || d.Format != "raw" && d.Format != "qcow2" {
			return bad("has a disk %q of format %q", d.File, d.Format)
		}
		if d.Guest == "" && d.File == upperName {
			roots++
		}
	}
	if roots != 1 {
		return bad("has %d root disks", roots)
	}
	return nil
}

// readSmall reads a regular file of at most maxSavedSize bytes.
func readSmall(path string) ([]byte, error) {
	f, err := sparse.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > maxSavedSize {
		return nil, fmt.Errorf("%s has %d bytes", path, info.Size())
	}
	b := make([]byte, info.Size())
	_, err = f.ReadAt(b, 0)
	return b, err
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

// savedFile is a file of an image when a machine that uses it was saved.
type savedFile struct {
	SHA256 string `json:"sha256"`
	Seen   string `json:"seen"` // which file it was on the host, and its times
}

// imageSums are the files of the image of a snapshot that the guest sees, by their names in
// the cache.
func (h home) imageSums(ctx context.Context, cfg snapshot.Config) (map[string]savedFile, error) {
	sums := map[string]savedFile{}
	err := h.eachImageFile(ctx, artefactOf(cfg), func(name, file string) error {
		sum, err := fileSum(ctx, file)
		if err == nil {
			sums[name] = savedFile{sum, seenFile(file)}
		}
		return err
	})
	return sums, err
}

// checkImage makes sure that the guest finds in its image what it has read of it already.
func (h home) checkImage(ctx context.Context, a *snapshot.Artefact, files map[string]savedFile) error {
	found := 0
	err := h.eachImageFile(ctx, a, func(name, file string) error {
		want, known := files[name]
		if !known {
			return nil
		}
		if found++; want.Seen != "" && want.Seen == seenFile(file) {
			return nil
		}
		sum, err := fileSum(ctx, file)
		if err == nil && sum != want.SHA256 {
			err = fail(ErrUnsupportedOperation, "image %s was converted in another way than where snapshot %s was made, and its memory does not fit: bring the image along, with snapshot save --with-image, or start from its disk alone", a.Descriptor.ImageRef, a.Path)
		}
		return err
	})
	if err == nil && found != len(files) {
		err = fail(ErrSnapshotIntegrity, "snapshot %s was made on %d files of image %s, of which %d are there", a.Path, len(files), a.Descriptor.ImageRef, found)
	}
	return err
}

// eachImageFile calls f for the files of a snapshot's image that a guest sees, as long as
// nobody removes them.
func (h home) eachImageFile(ctx context.Context, a *snapshot.Artefact, f func(name, file string) error) error {
	files, release, err := h.imageFiles(ctx, []*snapshot.Artefact{a})
	if err != nil {
		return err
	}
	defer release()
	for _, file := range files {
		if dir := path.Dir(file.Name); dir != "layers" && dir != "fsmeta" {
			continue
		}
		if err := f(file.Name, file.Path); err != nil {
			return wrap(ErrIO, err)
		}
	}
	return nil
}

// seenFile tells a file from others and from what it was before; empty if that is unknown.
func seenFile(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	id, err := fileID(f)
	info, statErr := f.Stat()
	if err != nil || statErr != nil {
		return ""
	}
	return fmt.Sprintf("%s %d %d", id, info.Size(), info.ModTime().UnixNano())
}
