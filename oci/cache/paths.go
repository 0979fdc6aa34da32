package cache

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gomsb/gomsb/oci/ref"
)

// Folders of a cache.
const (
	manifestsDir = "manifests"
	rootsDir     = "flat-erofs"
	vmdkDir      = "vmdk"
	tmpDir       = "tmp"
)

// staleAfter is the age at which a file in tmp has been left by a process that died.
const staleAfter = 24 * time.Hour

func (c *Cache) metadataPath(r ref.Reference) string {
	return filepath.Join(c.dir, manifestsDir, r.Key()+".json")
}

func (c *Cache) referenceLock(r ref.Reference) string {
	return filepath.Join(c.dir, manifestsDir, r.Key()+".lock")
}

func (c *Cache) rootPath(manifest digest.Digest) string {
	return filepath.Join(c.dir, rootsDir, safe(manifest)+".erofs")
}

// rootLock guards the root image and its VMDK descriptor.
func (c *Cache) rootLock(manifest digest.Digest) string { return c.rootPath(manifest) + ".lock" }

func (c *Cache) vmdkPath(manifest digest.Digest) string {
	return filepath.Join(c.dir, vmdkDir, safe(manifest)+".vmdk")
}

func (c *Cache) tmp() string { return filepath.Join(c.dir, tmpDir) }

// safe makes a file name of a digest.
func safe(d digest.Digest) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("+.=_-", r):
			return r
		}
		return '_'
	}, d.String())
}

// sweep removes temporary files that dead processes left. It is a courtesy: what
// cannot be removed stays.
func (c *Cache) sweep(now time.Time) {
	entries, err := os.ReadDir(c.tmp())
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && strings.HasSuffix(e.Name(), partSuffix) && now.Sub(info.ModTime()) > staleAfter {
			_ = os.Remove(filepath.Join(c.tmp(), e.Name()))
		}
	}
}
