package cache

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Files that are not published yet carry a lock as long as their writer lives, so that
// what a killed process left can be told at once; a file this young may not be locked
// yet. Interrupted downloads and files that this package did not make are left alone
// until they are old.
const (
	unlockedFor = time.Minute
	staleAfter  = 24 * time.Hour
)

// sweep removes temporary files that dead processes left. It is a courtesy: what
// cannot be removed stays.
func (c *Cache) sweep(now time.Time) (removed int, bytes int64) {
	entries, err := os.ReadDir(c.tmp())
	if err != nil {
		return 0, 0
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || strings.HasSuffix(e.Name(), lockSuffix) {
			continue
		}
		age, path := now.Sub(info.ModTime()), filepath.Join(c.tmp(), e.Name())
		if age > staleAfter || age > unlockedFor && strings.HasSuffix(e.Name(), newSuffix) && abandoned(path) {
			if os.Remove(path) == nil {
				removed++
				bytes += allocated(info)
			}
		}
	}
	return removed, bytes
}

// DropInterrupted removes what interrupted downloads left, which the next pull would go on
// with, and returns the bytes on disk that this gave back. Downloads under way stay.
func (c *Cache) DropInterrupted() (bytes int64, err error) {
	parts, err := filepath.Glob(filepath.Join(c.tmp(), "*"+partSuffix))
	if err != nil {
		return 0, err
	}
	for _, part := range parts {
		err := ifFree(strings.TrimSuffix(part, partSuffix)+downloadSuffix, func() error {
			gone, err := remove(part)
			for _, f := range gone {
				bytes += f.bytes
			}
			return err
		})
		if err != nil {
			return bytes, err
		}
	}
	return bytes, nil
}

// abandoned reports whether nobody holds the lock of a temporary file.
func abandoned(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}

// allocated is what a file takes on disk, in bytes.
func allocated(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
