package stitch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
)

// Disk reads the disk that a descriptor describes. It is safe for concurrent use.
type Disk struct {
	files  []*os.File
	starts []int64 // of each file on the disk, and the end of the last
}

// Open opens the files of the descriptor at path, which must be as Descriptor writes it
// and true about their sizes.
func Open(path string) (*Disk, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	extents, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	d := &Disk{starts: []int64{0}}
	for _, e := range extents {
		if err := d.add(e); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	return d, nil
}

func (d *Disk) add(e Extent) error {
	f, err := os.Open(e.Path)
	if err != nil {
		return err
	}
	d.files = append(d.files, f)
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != e.Size {
		return fmt.Errorf("%w: %s has %d bytes, not %d", ErrDescriptor, e.Path, info.Size(), e.Size)
	}
	d.starts = append(d.starts, d.Size()+e.Size)
	return nil
}

// Size is the length of the disk in bytes.
func (d *Disk) Size() int64 { return d.starts[len(d.starts)-1] }

// ReadAt implements io.ReaderAt.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d of a disk", off)
	}
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if at >= d.Size() {
			return done, io.EOF
		}
		i := sort.Search(len(d.files), func(i int) bool { return d.starts[i+1] > at })
		n := min(int64(len(p)-done), d.starts[i+1]-at)
		got, err := d.files[i].ReadAt(p[done:done+int(n)], at-d.starts[i])
		if done += got; got < int(n) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF // the file has become shorter
			}
			return done, err
		}
	}
	return done, nil
}

// Close closes the files.
func (d *Disk) Close() error {
	var errs []error
	for _, f := range d.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
