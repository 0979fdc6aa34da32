package cache

import (
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/gomsb/gomsb/oci/ref"
)

// Folders of a cache, as microsandbox 0.6.18 has them.
const (
	manifestsDir = "manifests" // metadata documents, by reference
	layersDir    = "layers"    // EROFS images of single layers, by diff_id
	fsmetaDir    = "fsmeta"    // EROFS images over them, by manifest
	vmdkDir      = "vmdk"      // descriptors of root disks, by manifest
	tmpDir       = "tmp"
)

func (c *Cache) metadataPath(r ref.Reference) string {
	return filepath.Join(c.dir, manifestsDir, r.Key()+documentSuffix)
}

func (c *Cache) referenceLock(r ref.Reference) string {
	return filepath.Join(c.dir, manifestsDir, r.Key()+lockSuffix)
}

func (c *Cache) layerPath(diffID digest.Digest) string { return c.layerFile(safe(diffID)) }

// layerFile is layerPath for a digest that is safe already.
func (c *Cache) layerFile(name string) string {
	return filepath.Join(c.dir, layersDir, name+imageSuffix)
}

func (c *Cache) fsmetaPath(manifest digest.Digest) string {
	return filepath.Join(c.dir, fsmetaDir, safe(manifest)+imageSuffix)
}

func (c *Cache) vmdkPath(manifest digest.Digest) string {
	return filepath.Join(c.dir, vmdkDir, safe(manifest)+vmdkSuffix)
}

const (
	documentSuffix = ".json"
	imageSuffix    = ".erofs"
	vmdkSuffix     = ".vmdk"
	lockSuffix     = ".lock"
)

// fsmetaLock guards the fsmeta image of a manifest and its VMDK descriptor.
func (c *Cache) fsmetaLock(manifest digest.Digest) string { return c.fsmetaPath(manifest) + lockSuffix }

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
