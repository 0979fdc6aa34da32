package cache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// partSuffix marks files in tmp that are not published yet.
const partSuffix = ".part"

// publish makes path hold what write writes, all of it or nothing: temporary file in
// the same file system, fsync, rename, fsync of the directory.
func (c *Cache) publish(path string, write func(w io.Writer) error) (err error) {
	f, err := os.CreateTemp(c.tmp(), "*-"+filepath.Base(path)+partSuffix)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	w := &sparseWriter{file: f}
	if err := write(w); err != nil {
		return err
	}
	if err := w.finish(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	// Published: from here on nothing is to be removed.
	return errors.Join(f.Close(), syncDir(filepath.Dir(path)))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sparseWriter leaves holes where long runs of zeros are written.
type sparseWriter struct {
	file *os.File
	off  int64
}

const holeSize = 64 << 10

var holeBytes [holeSize]byte

func (s *sparseWriter) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		part := p[done:min(len(p), done+holeSize)]
		if !bytes.Equal(part, holeBytes[:len(part)]) {
			if _, err := s.file.WriteAt(part, s.off); err != nil {
				return done, err
			}
		}
		s.off += int64(len(part))
		done += len(part)
	}
	return len(p), nil
}

// finish gives the file its length, which a hole at the end would not.
func (s *sparseWriter) finish() error {
	if err := s.file.Truncate(s.off); err != nil {
		return fmt.Errorf("set length: %w", err)
	}
	return nil
}
