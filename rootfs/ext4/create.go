package ext4

import (
	"errors"
	"os"
	"path/filepath"
)

// Create makes the file at path an image of a new ext4 file system, all of it or
// nothing: it writes a temporary file beside path and renames it, replacing what was
// there. Killed midway it leaves only that file, called .NAME-*.part. The image is
// sparse, readable by its owner alone, and takes some 1.4 MiB of the disk for 4 GiB
// beyond the tree's content.
//
// Layout: blocks of 4096 bytes; groups of 32768 blocks and 8192 inodes, each with its
// own metadata; 256-byte inodes; 256 blocks of reserve for descriptors, so that the
// file system can grow by 2 TiB; a journal of 64 MiB (16 below 256 MiB of size, 4 below
// 64); checksums on all metadata; no blocks reserved for root, no lost+found. Runs of
// 64 KiB of zeros in files become holes. Directories of more than one block are
// indexed. Inodes and blocks are dealt out in depth-first order of sorted names.
//
// Content is read once, in bounded memory apart from the plan (some 200 bytes a name)
// and the largest directory. Errors wrap ErrOptions, ErrTree, ErrSpace or ErrContent,
// or are those of the file and the content readers.
func Create(path string, o Options) (err error) {
	if err := o.Validate(); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*.part")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	o = o.complete()
	if err := format(f, o); err != nil {
		return err
	}
	if err := f.Truncate(o.Size); err != nil {
		return err
	}
	if o.Sync {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	// Published: from here on nothing is to be removed.
	if o.Sync {
		return errors.Join(f.Close(), syncDir(filepath.Dir(path)))
	}
	return f.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
