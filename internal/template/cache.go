package template

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/gomsb/gomsb/internal/filelock"
	"github.com/gomsb/gomsb/snapshot/format"
)

const (
	// maxAge is how long a template is kept that nobody uses.
	maxAge = 7 * 24 * time.Hour
	// maxSize is what all templates may take on disk, in bytes, before the ones that were
	// not used for longest go.
	maxSize = 2 << 30
	// retryAfter is how long a shape is let alone of which no template could be made.
	retryAfter = time.Hour
	// useAge is how exactly the last use is known.
	useAge = time.Hour
)

// ErrUnsafe says that others may write to the folder of templates, or that it is no folder.
var ErrUnsafe = errors.New("the folder of templates is not safe to use")

// Cache is a folder of templates, which many processes may use at the same time.
type Cache struct{ Dir string }

// Open opens the template of a shape. The error wraps fs.ErrNotExist if there is none.
func (c Cache) Open(ctx context.Context, s *Shape) (*format.Checkpoint, error) {
	key, shape, err := s.key()
	if err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	dir := filepath.Join(c.Dir, key)
	t, err := format.Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(t.Header().Shape, shape) {
		return nil, errors.Join(fmt.Errorf("%w: %s is of another shape", format.ErrMismatch, dir), t.Close())
	}
	c.used(dir)
	return t, nil
}

// used notes that a template is of use.
func (c Cache) used(dir string) {
	info, err := os.Stat(dir)
	if now := time.Now(); err == nil && now.Sub(info.ModTime()) > useAge {
		_ = os.Chtimes(dir, now, now) // at worst it is made again one day
	}
}

// Remove removes the template of a shape, which proved to be of no use.
func (c Cache) Remove(s *Shape) error {
	key, _, err := s.key()
	if err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(c.Dir, key))
}

// Wanted reports whether it makes sense to build the template of a shape now.
func (c Cache) Wanted(s *Shape) bool {
	key, _, err := s.key()
	if err != nil {
		return false
	}
	if _, err := os.Stat(filepath.Join(c.Dir, key)); err == nil {
		return false
	}
	info, err := os.Stat(c.failed(key))
	return err != nil || time.Since(info.ModTime()) > retryAfter
}

// failed is the file that says why there is no template.
func (c Cache) failed(key string) string { return filepath.Join(c.Dir, key+".failed") }

// build has create write the template of a shape into dir, unless there is one already or
// another process builds it: the error is nil then too. It waits while another shape is
// being built, and in the end removes what is old.
func (c Cache) build(ctx context.Context, s *Shape, create func(dir string, shape []byte) error) error {
	key, shape, err := s.key()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	mine, err := c.open(key + ".lock")
	if err != nil {
		return err
	}
	defer func() { _ = mine.Close() }()
	if ok, err := filelock.Try(mine); err != nil || !ok {
		return err
	}
	all, err := c.open(".lock")
	if err != nil {
		return err
	}
	defer func() { _ = all.Close() }()
	if err := filelock.Wait(ctx, all); err != nil {
		return err
	}
	if !c.Wanted(s) {
		return nil
	}
	err = create(filepath.Join(c.Dir, key), shape)
	if err != nil {
		return errors.Join(err, os.WriteFile(c.failed(key), []byte(err.Error()+"\n"), 0o600))
	}
	if err := os.Remove(c.failed(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return c.prune(key, time.Now())
}

// open opens a lock file.
func (c Cache) open(name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(c.Dir, name), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
}

// check refuses a folder in which others could swap files. A missing one is fine.
func (c Cache) check() error {
	info, err := os.Stat(c.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%w: %s must be a folder of yours that nobody else may write to: remove it", ErrUnsafe, c.Dir)
	}
	return nil
}

// entry is a template, or what is left of an attempt to build one.
type entry struct {
	path string
	used time.Time
	size int64 // on disk, bytes
}

// prune removes what nobody used for maxAge, and then what was not used for longest until
// maxSize is enough; keep is the name of one that stays.
func (c Cache) prune(keep string, now time.Time) error {
	list, err := c.entries(keep)
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b entry) int { return b.used.Compare(a.used) })
	var total int64
	var errs []error
	for _, e := range list {
		if total += e.size; total > maxSize || now.Sub(e.used) > maxAge {
			errs = append(errs, os.RemoveAll(e.path))
		}
	}
	return errors.Join(errs...)
}

// entries are those that prune may remove. The lock on all of the folder is held.
func (c Cache) entries(keep string) ([]entry, error) {
	names, err := os.ReadDir(c.Dir)
	if err != nil {
		return nil, err
	}
	var list []entry
	for _, d := range names {
		name := d.Name()
		info, err := d.Info()
		if err != nil || name == keep || filepath.Ext(name) == ".lock" {
			continue // gone meanwhile, or a lock, which is never removed
		}
		e := entry{path: filepath.Join(c.Dir, name), used: info.ModTime()}
		if name[0] == '.' { // of a process that was killed: nobody else builds now
			e.used = time.Time{}
		}
		if d.IsDir() {
			e.size = allocated(e.path)
		}
		list = append(list, e)
	}
	return list, nil
}

// allocated is what the files of a folder take on disk, as far as they can be seen.
func allocated(dir string) (n int64) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				n += st.Blocks * 512
			}
		}
	}
	return n
}
