package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/gomsb/gomsb/snapshot"
	"github.com/gomsb/gomsb/snapshot/descriptor"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

// Contents is what Unpack found.
type Contents struct {
	Head      *snapshot.Artefact
	Name      string               // suggested for the head; "" if none
	Snapshots []*snapshot.Artefact // all, the head too
	Images    bool                 // it holds the images that the snapshots need
}

// Images takes the files of images, which are good only when Unpack has succeeded. It
// must read all of r.
type Images interface {
	Add(ctx context.Context, name string, size int64, r io.Reader) error
}

// unpacker reads one archive into a directory.
type unpacker struct {
	reader
	dir    string
	images Images
	seen   map[string]observed
	text   []byte // of the inventory, nil in archives of older releases

	withImages bool // members of images were there
}

// Unpack reads an archive into the empty directory dir, each snapshot into a directory
// of its own, complete and on disk; what it leaves there when it fails is for the caller
// to remove. It checks the archive against its inventory, not payloads against the
// integrity that their descriptors record. Errors wrap a class of this package or of
// package snapshot, or are those of the files, of images or of ctx.
func Unpack(ctx context.Context, r io.Reader, dir string, images Images) (*Contents, error) {
	tar, done, err := decompress(r)
	if err != nil {
		return nil, err
	}
	defer done()
	u := &unpacker{reader: reader{ctx: ctx, r: tar}, dir: dir, images: images, seen: map[string]observed{}}
	for {
		m, err := u.next()
		if err == io.EOF {
			return u.finish()
		}
		if err == nil {
			err = u.member(m)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (u *unpacker) member(m member) error {
	if m.kind == typeDirectory {
		if !filepath.IsLocal(m.name) {
			return fmt.Errorf("%w: directory %q leaves the archive", ErrArchive, m.name)
		}
		return nil // those of members are made with them
	}
	if _, twice := u.seen[m.name]; twice || u.text != nil {
		return fmt.Errorf("%w: %q is there twice, or after the inventory", ErrArchive, m.name)
	}
	var o observed
	var err error
	switch n := parseName(m.name); n.kind {
	case kindInventory:
		u.text, _, err = u.bytes(m, "", maxDocument)
		return err
	case kindDescriptor:
		o, err = u.descriptor(m, n.snapshot, n.file)
	case kindPayload:
		o, err = u.payload(m, n.snapshot, n.file)
	case kindCheckpoint:
		o, err = u.checkpointMember(m, n.snapshot, n.file)
	case kindMetadata, kindObject:
		o, err = u.image(m, n)
	default:
		err = fmt.Errorf("%w: %q does not belong into it", ErrArchive, m.name)
	}
	u.seen[m.name] = o
	return err
}

// place returns the path of a file of a snapshot, whose directory it makes.
func (u *unpacker) place(snapshot, file string) (string, error) {
	dir := filepath.Join(u.dir, snapshot)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return filepath.Join(dir, file), nil
}

func (u *unpacker) descriptor(m member, id, file string) (observed, error) {
	text, o, err := u.bytes(m, kindDescriptor, descriptor.MaxSize)
	if err != nil {
		return o, err
	}
	path, err := u.place(id, file)
	if err != nil {
		return o, err
	}
	return o, writeFile(path, func(f *os.File) error {
		_, err := f.Write(text)
		return err
	})
}

func (u *unpacker) payload(m member, id, file string) (observed, error) {
	path, err := u.place(id, file)
	if err != nil {
		return observed{}, err
	}
	return u.sparse(m, kindPayload, path)
}

// holeSize is the size of a run of zeros that is left a hole.
const holeSize = 4096

var zeros [holeSize]byte

// writeExtent writes one extent of a file without its zeros: a small archive must not
// fill the disk with nothing.
func writeExtent(f *os.File, e sparse.Extent, r io.Reader, buf []byte) error {
	for at := e.Offset; at < e.End(); {
		// To the next multiple of the buffer's size, so that pieces are whole blocks.
		n := min(int64(len(buf))-at%int64(len(buf)), e.End()-at)
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			return cut(err)
		}
		for piece := buf[:n]; len(piece) > 0; {
			size := min(len(piece), holeSize-int(at%holeSize))
			run := 0 // bytes of data
			for run < len(piece) && !bytes.Equal(piece[run:run+size], zeros[:size]) {
				run += size
				size = min(len(piece)-run, holeSize)
			}
			if run > 0 {
				if _, err := f.WriteAt(piece[:run], at); err != nil {
					return err
				}
				size = 0
			}
			at, piece = at+int64(run+size), piece[run+size:]
		}
	}
	return nil
}

func (u *unpacker) image(m member, n name) (observed, error) {
	switch {
	case m.kind != typeRegular:
		return observed{}, fmt.Errorf("%w: %q is sparse", ErrArchive, m.name)
	case n.kind == kindMetadata && m.size > maxImage:
		return observed{}, fmt.Errorf("%w: %q has %d bytes", ErrLimit, m.name, m.size)
	}
	u.withImages = true
	return u.content(m, n.kind, func(r io.Reader) error { return u.images.Add(u.ctx, n.file, m.size, r) })
}

// writeFile makes a file that is on disk when writeFile returns.
func writeFile(path string, fill func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		err = fmt.Errorf("%w: %q is there twice", ErrArchive, filepath.Base(path))
	}
	if err != nil {
		return err
	}
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
