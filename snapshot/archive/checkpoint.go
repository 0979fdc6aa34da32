package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gomsb/gomsb/snapshot"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

// A checkpoint of a machine travels as the members checkpoints/<64 hex>/FILE, which are of
// gomsb only: an archive with some requires checkpointFeature.
const (
	kindCheckpoint    = "checkpoint-file"
	checkpointFeature = "gomsb-checkpoint-v1"
	checkpointsDir    = "checkpoints"
)

// checkpointFiles are the files of every checkpoint, with the most bytes that they may
// have; 0 is no bound but the disk's.
var checkpointFiles = map[string]int64{
	"manifest.json": 16 << 20, "sandbox.json": 4 << 20, "machine/machine": 256 << 20, "machine/memory": 0,
}

// maxDiskName is the longest number of a disk.
const maxDiskName = 3

// isCheckpointFile reports that a checkpoint may have a file of that name.
func isCheckpointFile(name string) bool {
	if _, known := checkpointFiles[name]; known {
		return true
	}
	number, is := strings.CutPrefix(name, "disks/")
	return is && len(number) <= maxDiskName && only(number, "0123456789")
}

// checkpoint writes the files of a snapshot's checkpoint, if it has one.
func (w *writer) checkpoint(a *snapshot.Artefact) error {
	dir := a.Checkpoint()
	if dir == "" {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	disks, err := fs.ReadDir(root.FS(), "disks")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	names := sortedNames()
	for _, d := range disks {
		names = append(names, "disks/"+d.Name())
	}
	for _, name := range names {
		if !isCheckpointFile(name) {
			return fmt.Errorf("%w: %s does not belong to a checkpoint", ErrArchive, filepath.Join(dir, name))
		}
		if err := w.checkpointFile(root, a.Digest, name); err != nil {
			return err
		}
	}
	w.checkpoints = true
	return nil
}

func sortedNames() (names []string) {
	for name := range checkpointFiles {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// checkpointFile writes one file of the checkpoint of the snapshot with an identity.
func (w *writer) checkpointFile(root *os.Root, id, name string) error {
	if info, err := root.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %w", filepath.Join(root.Name(), name), sparse.ErrNotRegular)
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	before, err := f.Stat()
	if err != nil {
		return err
	}
	m := member{name: path.Join(checkpointsDir, identityHex(id), name), size: before.Size()}
	data, err := w.layOut(&m, f)
	if err != nil {
		return err
	}
	if err := w.add(m, entry{Kind: kindCheckpoint, OwnerSnapshot: &id}, data); err != nil {
		return err
	}
	after, err := f.Stat()
	if err == nil && (after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime())) {
		err = fmt.Errorf("%s: %w", f.Name(), sparse.ErrChanged)
	}
	return err
}

// checkpointMember reads one file of a checkpoint.
func (u *unpacker) checkpointMember(m member, id, file string) (o observed, err error) {
	if most := checkpointFiles[file]; most > 0 && m.size > most {
		return o, fmt.Errorf("%w: %q has %d bytes; at most %d are good", ErrLimit, m.name, m.size, most)
	}
	dir := filepath.Join(u.dir, id, snapshot.CheckpointName, filepath.FromSlash(path.Dir(file)))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return o, err
	}
	return u.sparse(m, kindCheckpoint, filepath.Join(dir, path.Base(file)))
}

// checkCheckpoint makes sure that an unpacked snapshot's checkpoint has all its files, and
// makes their names durable. A snapshot without one is good.
func checkCheckpoint(a *snapshot.Artefact) error {
	dir := a.Checkpoint()
	if dir == "" {
		return nil
	}
	for _, name := range sortedNames() {
		if _, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(name))); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: the checkpoint of snapshot %s lacks its %s", ErrArchive, a.Digest, name)
		} else if err != nil {
			return err
		}
	}
	for _, sub := range []string{"disks", "machine", "."} {
		if err := sparse.SyncDir(filepath.Join(dir, sub)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// sparse unpacks a file of a snapshot, holes included.
func (u *unpacker) sparse(m member, kind, path string) (o observed, err error) {
	err = writeFile(path, func(f *os.File) error {
		if err := f.Truncate(m.size); err != nil {
			return err
		}
		extents := m.extents
		if m.kind == typeRegular {
			extents = []sparse.Extent{{Length: m.size}}
		}
		o, err = u.content(m, kind, func(r io.Reader) error {
			buf := make([]byte, 1<<20)
			for _, e := range extents {
				if err := writeExtent(f, e, r, buf); err != nil {
					return err
				}
			}
			return nil
		})
		return err
	})
	return o, err
}
