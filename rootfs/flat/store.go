package flat

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gomsb/gomsb/internal/filelock"
	"github.com/gomsb/gomsb/rootfs/ext4"
	"github.com/gomsb/gomsb/rootfs/tree"
)

// abi is the version of what is made of an image, a part of the identity of a result.
const abi = 2

// Image is what the file system of an image depends on.
type Image struct {
	Manifest         string   // digest, "sha256:<hex>"
	DiffIDs          []string // of the layers, bottom first
	OS, Architecture string
	Variant          string // of the architecture; empty for none
}

// derivation identifies the image together with the way its file system is made.
type derivation [sha256.Size]byte

func (d derivation) String() string { return hex.EncodeToString(d[:]) }

func (i *Image) derivation() derivation {
	var b []byte
	b = append(b, "microsandbox.flat-rootfs\x00"...)
	b = binary.LittleEndian.AppendUint32(b, abi)
	b = append(b, "\x00"+i.OS+"/"+i.Architecture...)
	if i.Variant != "" {
		b = append(b, "/"+i.Variant...)
	}
	b = append(b, "\x00"+i.Manifest...)
	for _, d := range i.DiffIDs {
		b = append(b, "\x00"+d...)
	}
	return sha256.Sum256(b)
}

// Root is a file system that is there.
type Root struct {
	Path string
	Size int64 // bytes, the least that a copy can have
}

// Store is a folder of such file systems.
type Store struct {
	Dir string // holds refs, blobs and locks
	Tmp string // for file systems that are not complete yet, on the same disk; others may use it too
}

// Folders of a store.
const (
	refsDir  = "refs"  // what is known of an image's file system, by manifest
	blobsDir = "blobs" // file systems, by their own digest
	locksDir = "locks" // by derivation
)

// record is the document of an image's file system.
type record struct {
	Schema      int    `json:"schema"`
	Manifest    string `json:"manifest_digest"`
	Derivation  string `json:"derivation_digest"`
	Artifact    string `json:"artifact_digest"`
	ABI         uint32 `json:"materializer_abi"`
	UUID        string `json:"uuid"`
	VirtualSize int64  `json:"virtual_size_bytes"`
	Inodes      uint64 `json:"inode_count"`
	Content     uint64 `json:"content_bytes"`
}

// safe makes a file name of a digest.
func safe(digest string) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r == ':' || r == 0 {
			return '_'
		}
		return r
	}, digest)
}

func (s Store) ref(manifest string) string {
	return filepath.Join(s.Dir, refsDir, safe(manifest)+".json")
}

func (s Store) blob(artifact string) string {
	return filepath.Join(s.Dir, blobsDir, safe(artifact)+".raw")
}

// lockOf is what guards the making of a file system.
func (s Store) lockOf(derivation string) string {
	return filepath.Join(s.Dir, locksDir, "sha256_"+derivation+".lock")
}

// partPrefix begins the names of the directories in which file systems are made; their
// derivation follows.
const partPrefix = "flat-"

func (s Store) part(derivation string) string { return filepath.Join(s.Tmp, partPrefix+derivation) }

// Root returns the file system of an image, and makes it first if it is not there: then
// content calls its argument with the image's files. Only one process makes it.
func (s Store) Root(ctx context.Context, i Image, content func(use func(*tree.Tree) error) error) (Root, error) {
	if r, ok := s.find(&i); ok {
		return r, nil
	}
	for _, dir := range []string{refsDir, blobsDir, locksDir} {
		if err := os.MkdirAll(filepath.Join(s.Dir, dir), 0o700); err != nil {
			return Root{}, err
		}
	}
	s.sweep()
	unlock, err := lock(ctx, s.lockOf(i.derivation().String()))
	if err != nil {
		return Root{}, err
	}
	defer unlock()
	if r, ok := s.find(&i); ok {
		return r, nil
	}
	var r Root
	err = content(func(t *tree.Tree) (err error) {
		r, err = s.make(ctx, &i, t)
		return err
	})
	return r, err
}

// find returns the file system of an image if it is there.
func (s Store) find(i *Image) (Root, bool) {
	text, err := os.ReadFile(s.ref(i.Manifest))
	var r record
	if err != nil || json.Unmarshal(text, &r) != nil {
		return Root{}, false
	}
	if r.Schema != 1 || r.Manifest != i.Manifest || r.ABI != abi || r.Derivation != "sha256:"+i.derivation().String() {
		return Root{}, false
	}
	path := s.blob(r.Artifact)
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() != r.VirtualSize {
		return Root{}, false
	}
	return Root{path, r.VirtualSize}, true
}

// make makes the file system and publishes it: the file, then what is known of it. The
// caller holds its lock.
func (s Store) make(ctx context.Context, i *Image, t *tree.Tree) (root Root, err error) {
	sum := i.derivation()
	id := [16]byte(sum[:16])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // RFC 9562, version 4
	r := record{
		Schema: 1, Manifest: i.Manifest, Derivation: "sha256:" + sum.String(), ABI: abi,
		UUID: fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]),
	}
	if r.VirtualSize, err = ext4.FlatSize(t); err != nil {
		return Root{}, err
	}
	if r.Inodes, r.Content, err = count(t); err != nil {
		return Root{}, err
	}
	dir := s.part(sum.String())
	// Whoever had the lock before may have been killed.
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		return Root{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	image := filepath.Join(dir, "root.raw")
	if err := ext4.Create(image, ext4.Options{Size: r.VirtualSize, UUID: id, Tree: t, Sync: true}); err != nil {
		return Root{}, err
	}
	if r.Artifact, err = digest(ctx, image); err != nil {
		return Root{}, err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return Root{}, err
	}
	document := filepath.Join(dir, "ref.json")
	// All that takes room comes first, or a full disk would keep a blob that nothing refers to.
	if err := writeSynced(document, text); err != nil {
		return Root{}, err
	}
	if err := publish(image, s.blob(r.Artifact)); err != nil {
		return Root{}, err
	}
	return Root{s.blob(r.Artifact), r.VirtualSize}, publish(document, s.ref(i.Manifest))
}

// count counts the inodes of a tree and the bytes of its files.
func count(t *tree.Tree) (inodes, content uint64, err error) {
	seen := map[*tree.Inode]bool{}
	err = t.Walk(func(_ string, n *tree.Inode) error {
		if !seen[n] {
			seen[n] = true
			inodes++
			content += uint64(n.Size)
		}
		return nil
	})
	return inodes, content, err
}

const hashBuffer = 1 << 20

// digest is that of all bytes of a file, holes too.
func digest(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	for buf := make([]byte, hashBuffer); err == nil; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		var n int
		n, err = f.Read(buf)
		h.Write(buf[:n])
	}
	if err != io.EOF {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// publish moves a file that is on the disk to its place, for good.
func publish(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// openLock opens a file to lock, which is never removed.
func openLock(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) }

// lock takes an exclusive lock.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := openLock(path)
	if err != nil {
		return nil, err
	}
	if err := filelock.Wait(ctx, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// sweep removes what killed processes left of file systems that they were making, and
// returns how many bytes of the disk that gave back. It is a courtesy: what cannot be
// removed stays.
func (s Store) sweep() (freed int64) {
	parts, _ := entries(s.Tmp)
	for _, e := range parts {
		id, ok := strings.CutPrefix(e.Name(), partPrefix)
		if !ok || len(id) != 2*sha256.Size {
			continue
		}
		freed += s.sweepPart(id)
	}
	return freed
}

// sweepPart is sweep for one file system.
func (s Store) sweepPart(id string) (freed int64) {
	f, err := openLock(s.lockOf(id))
	if err != nil {
		return 0
	}
	defer f.Close()
	if locked, err := filelock.Try(f); err != nil || !locked {
		return 0 // somebody is at it
	}
	files, _ := entries(s.part(id))
	for _, f := range files {
		if info, err := f.Info(); err == nil {
			freed += allocated(info)
		}
	}
	if os.RemoveAll(s.part(id)) != nil {
		return 0
	}
	return freed
}

// Prune removes the file systems of all images but those whose manifests keep says, and
// returns how many bytes of the disk that gave back. Sandboxes have copies of their own.
func (s Store) Prune(keep func(manifest string) bool) (freed int64, err error) {
	freed = s.sweep()
	used := map[string]bool{}
	refs, err := entries(filepath.Join(s.Dir, refsDir))
	if err != nil {
		return freed, err
	}
	for _, e := range refs {
		path := filepath.Join(s.Dir, refsDir, e.Name())
		text, err := os.ReadFile(path)
		var r record
		if err == nil && json.Unmarshal(text, &r) == nil && keep(r.Manifest) {
			used[filepath.Base(s.blob(r.Artifact))] = true
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return freed, err
		}
	}
	blobs, err := entries(filepath.Join(s.Dir, blobsDir))
	if err != nil {
		return freed, err
	}
	for _, e := range blobs {
		info, err := e.Info()
		if err != nil || used[e.Name()] || time.Since(info.ModTime()) < pruneAge {
			continue // gone, wanted, or not referred to yet
		}
		if err := os.Remove(filepath.Join(s.Dir, blobsDir, e.Name())); err != nil {
			return freed, err
		}
		freed += allocated(info)
	}
	return freed, nil
}

// pruneAge is how old a file system without a document must be: the document follows
// within moments.
const pruneAge = time.Minute

func entries(dir string) ([]fs.DirEntry, error) {
	all, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return all, err
}

func allocated(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
