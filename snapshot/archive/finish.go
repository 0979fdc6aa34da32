package archive

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gomsb/gomsb/snapshot"
	"github.com/gomsb/gomsb/snapshot/descriptor"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

// finish opens what was unpacked and checks it as a whole.
func (u *unpacker) finish() (*Contents, error) {
	all, err := u.open()
	if err != nil {
		return nil, err
	}
	if u.text == nil {
		head, err := childless(all)
		return &Contents{Head: head, Snapshots: all, Images: u.withImages}, err
	}
	i, err := decodeInventory(u.text)
	if err != nil {
		return nil, err
	}
	c := &Contents{Name: i.SuggestedName, Snapshots: all, Images: i.WithImage}
	byID := map[string]*snapshot.Artefact{}
	for _, a := range all {
		byID[a.Digest] = a
	}
	if c.Head = byID[i.Head]; c.Head == nil {
		return nil, fmt.Errorf("%w: its head %s is missing", ErrArchive, i.Head)
	}
	if i.WithImage != u.withImages {
		return nil, fmt.Errorf("%w: the inventory is wrong about images", ErrMismatch)
	}
	if err := u.checkSnapshots(i, byID); err != nil {
		return nil, err
	}
	return c, u.checkEntries(i, byID)
}

// open opens every snapshot. Each directory holds a descriptor in its canonical form, the
// payload that it names and perhaps a checkpoint, nothing else; its name is the identity.
func (u *unpacker) open() ([]*snapshot.Artefact, error) {
	dirs, err := os.ReadDir(u.dir)
	if err != nil {
		return nil, err
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("%w: it holds no snapshot", ErrArchive)
	}
	var all []*snapshot.Artefact
	for _, d := range dirs {
		a, err := snapshot.Open(filepath.Join(u.dir, d.Name()))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		if _, known := u.seen[descriptorMember("sha256:"+d.Name())]; known {
			text, err := a.Descriptor.Encode()
			if o := u.seen[descriptorMember(a.Digest)]; err != nil || o.sum != a.Digest || o.ApparentSize != int64(len(text)) {
				return nil, fmt.Errorf("%w: snapshot %s is not what its name says", ErrMismatch, d.Name())
			}
		} else if a, err = u.modernise(a); err != nil {
			return nil, err
		}
		want := 2
		if a.Checkpoint() != "" {
			want = 3
		}
		if files, err := os.ReadDir(a.Path); err != nil || len(files) != want {
			return nil, fmt.Errorf("%w: snapshot %s has files that do not belong to it", ErrArchive, d.Name())
		}
		if err := checkCheckpoint(a); err != nil {
			return nil, err
		}
		if err := sparse.SyncDir(a.Path); err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// modernise gives a snapshot of an older release the descriptor and the name that it has
// in this one.
func (u *unpacker) modernise(a *snapshot.Artefact) (*snapshot.Artefact, error) {
	text, err := a.Descriptor.Encode()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(u.dir, identityHex(a.Digest))
	if a.Path != path {
		if err := os.Rename(a.Path, path); err != nil {
			return nil, err
		}
	}
	err = writeFile(filepath.Join(path, descriptor.FileName), func(f *os.File) error {
		_, err := f.Write(text)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := os.Remove(filepath.Join(path, descriptor.LegacyFileName)); err != nil {
		return nil, err
	}
	return snapshot.Open(path)
}

// childless returns the one snapshot that is nobody's parent.
func childless(all []*snapshot.Artefact) (head *snapshot.Artefact, err error) {
	parents := map[string]bool{}
	for _, a := range all {
		parents[a.Descriptor.Parent] = true
	}
	for _, a := range all {
		switch {
		case parents[a.Digest]:
		case head != nil:
			return nil, fmt.Errorf("%w: it holds several snapshots and does not say which it is about", ErrArchive)
		default:
			head = a
		}
	}
	if head == nil {
		return nil, fmt.Errorf("%w: its snapshots are each other's parents", ErrArchive)
	}
	return head, nil
}

// checkSnapshots compares the list of snapshots with those that are there.
func (u *unpacker) checkSnapshots(i *inventory, byID map[string]*snapshot.Artefact) error {
	for n, s := range i.Snapshots {
		if byID[s.SnapshotID] == nil || s.Descriptor != descriptorMember(s.SnapshotID) || n > 0 && i.Snapshots[n-1].SnapshotID == s.SnapshotID {
			return fmt.Errorf("%w: the inventory is wrong about snapshot %q", ErrMismatch, s.SnapshotID)
		}
	}
	if len(i.Snapshots) != len(byID) {
		return fmt.Errorf("%w: the inventory does not know every snapshot", ErrMismatch)
	}
	return nil
}

// checkEntries compares the list of members with those that were read.
func (u *unpacker) checkEntries(i *inventory, byID map[string]*snapshot.Artefact) error {
	included := 0
	for n, e := range i.Entries {
		wrong := func(about string) error {
			return fmt.Errorf("%w: %q differs from the inventory in its %s", ErrMismatch, e.Path, about)
		}
		if n > 0 && i.Entries[n-1].Path == e.Path {
			return wrong("number")
		}
		o, there := u.seen[e.Path]
		if there != e.Included {
			return wrong("presence")
		}
		if !e.Included {
			continue
		}
		included++
		integrity, owner := ownIntegrity(o.sum), ""
		if o.Kind == kindPayload || o.Kind == kindDescriptor || o.Kind == kindCheckpoint {
			owner = "sha256:" + strings.Split(e.Path, "/")[1]
		}
		if a := byID[owner]; o.Kind == kindPayload && a != nil {
			integrity = a.Descriptor.Upper.EncodeIntegrity()
		}
		switch {
		case e.Kind != o.Kind:
			return wrong("kind")
		case e.EncodedSize != o.EncodedSize || e.ApparentSize != o.ApparentSize:
			return wrong("size")
		case (e.OwnerSnapshot == nil) != (owner == "") || e.OwnerSnapshot != nil && *e.OwnerSnapshot != owner:
			return wrong("snapshot")
		case e.TransportIntegrity == nil || *e.TransportIntegrity != *o.TransportIntegrity:
			return wrong("transport digest")
		case !bytes.Equal(e.Integrity, integrity):
			return wrong("integrity")
		}
	}
	if included != len(u.seen) {
		return fmt.Errorf("%w: the inventory does not know every member", ErrMismatch)
	}
	return nil
}
