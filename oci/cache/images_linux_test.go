//go:build images

package cache

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/image-spec/specs-go"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/archive"
	"github.com/gomsb/gomsb/oci/manifest"
	"github.com/gomsb/gomsb/oci/registry/registrytest"
	"github.com/gomsb/gomsb/rootfs/tree"
)

// testImages builds the images of hack/testimages unless they exist.
func testImages(t *testing.T, name string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../hack/testimages/build.sh", name)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

func loadFile(t *testing.T, path string) *oci.Image {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	got, err := open(t).Load(t.Context(), f, LoadOptions{})
	require.NoError(t, err)
	require.Len(t, got, 1)
	return got[0]
}

// same compares the disks of two images, and has fsck.erofs check the files of one.
func same(t *testing.T, a, b *oci.Image) {
	t.Helper()
	one, extents := rootDisk(t, a)
	two, _ := rootDisk(t, b)
	require.Equal(t, a.DiskSize, b.DiskSize)
	x, y := sha256.New(), sha256.New()
	_, err := io.Copy(x, io.NewSectionReader(one, 0, a.DiskSize))
	require.NoError(t, err)
	_, err = io.Copy(y, io.NewSectionReader(two, 0, b.DiskSize))
	require.NoError(t, err)
	assert.Equal(t, x.Sum(nil), y.Sum(nil), "the disks differ")
	var meta []string
	for _, e := range extents[1:] {
		meta = append(meta, "--device="+e.Path)
		fsck(t, e.Path)
	}
	fsck(t, append(meta, extents[0].Path)...)
}

func fsck(t *testing.T, args ...string) {
	t.Helper()
	command(t, "fsck.erofs", args...)
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
}

func TestMiniImage(t *testing.T) {
	dir := testImages(t, "mini")
	one, two := loadFile(t, filepath.Join(dir, "mini.tar")), loadFile(t, filepath.Join(dir, "mini-oci.tar"))
	same(t, one, two)
	assert.Equal(t, "busybox", mounted(t, one).Lookup("bin/sh").Target)
}

// TestDebianImage compares a Debian root with what GNU tar makes of the same layers.
// It must run as root, as GNU tar needs it for owners, devices and capabilities.
func TestDebianImage(t *testing.T) {
	dir := testImages(t, "debian")
	one, two := loadFile(t, filepath.Join(dir, "debian.tar")), loadFile(t, filepath.Join(dir, "debian-oci.tar"))
	same(t, one, two)

	root := t.TempDir()
	f, err := os.Open(filepath.Join(dir, "debian.tar"))
	require.NoError(t, err)
	defer f.Close()
	staged, err := archive.Stage(t.Context(), t.TempDir(), f, archive.DefaultLimits().Outer)
	require.NoError(t, err)
	images, err := archive.Read(t.Context(), staged, manifest.Platform{OS: "linux", Architecture: "amd64"}, archive.DefaultLimits())
	require.NoError(t, err)
	touched := map[string]bool{}
	for n := range images[0].Layers {
		if n > 0 {
			hide(t, root, images[0].Open(n), touched)
		}
		cmd := exec.CommandContext(t.Context(), "tar", "-C", root, "--numeric-owner", "--xattrs", "--xattrs-include=*", "--exclude=.wh.*", "-xpf", "-")
		cmd.Stdin = images[0].Open(n)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	want, got := onHost(t, root), inTree(t, mounted(t, one))
	assert.Greater(t, len(want), 5000)
	for path := range touched {
		delete(want, path)
		delete(got, path)
	}
	assert.Len(t, got, len(want))
	capabilities := 0
	for path, line := range want {
		if got[path] != line {
			assert.Equal(t, line, got[path], path)
		}
		if strings.Contains(line, "security.capability") {
			capabilities++
		}
	}
	assert.Positive(t, capabilities, "the image has no file capabilities to compare")
}

// hide applies the whiteouts of a layer and notes the directories it changes without
// describing them: unpacking gives those the time of unpacking.
func hide(t *testing.T, root string, layer io.Reader, touched map[string]bool) {
	t.Helper()
	r := tar.NewReader(layer)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		require.NoError(t, err)
		parent, name := filepath.Split(h.Name)
		touched[filepath.Join("/", parent)] = true
		switch hidden, found := strings.CutPrefix(name, ".wh."); {
		case name == ".wh..wh..opq":
			all, err := os.ReadDir(filepath.Join(root, parent))
			require.NoError(t, err)
			for _, e := range all {
				require.NoError(t, os.RemoveAll(filepath.Join(root, parent, e.Name())))
			}
		case found:
			require.NoError(t, os.RemoveAll(filepath.Join(root, parent, hidden)))
		}
	}
}

func line(mode, uid, gid, major, minor uint32, mtime tree.Time, links uint64, target string, xattrs []tree.Xattr, content io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, content); err != nil {
		return "", err
	}
	// GNU tar keeps sub-second times only for what it extracts last; seconds suffice.
	return fmt.Sprintf("%o %d:%d dev %d:%d time %d links %d -> %q xattrs %q sha256 %x", mode, uid, gid, major, minor, mtime.Sec, links, target, xattrs, h.Sum(nil)), nil
}

func onHost(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		target, links, major, minor := "", st.Nlink, uint32(0), uint32(0)
		var content io.Reader = strings.NewReader("")
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			if target, err = os.Readlink(path); err != nil {
				return err
			}
		case unix.S_IFREG:
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			content = f
		case unix.S_IFDIR:
			links = 0
		case unix.S_IFCHR, unix.S_IFBLK:
			major, minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
		}
		node := tree.Inode{}
		list := make([]byte, 64<<10)
		n, err := unix.Llistxattr(path, list)
		if err != nil {
			return err
		}
		for _, name := range strings.FieldsFunc(string(list[:n]), func(r rune) bool { return r == 0 }) {
			value := make([]byte, 64<<10)
			n, err := unix.Lgetxattr(path, name, value)
			if err != nil {
				return err
			}
			node.SetXattr(name, value[:n])
		}
		name := strings.TrimPrefix(path, root)
		if name == "" {
			name = "/"
		}
		all[name], err = line(st.Mode, st.Uid, st.Gid, major, minor, tree.Time{Sec: st.Mtim.Sec}, links, target, node.Xattrs, content)
		return err
	}))
	return all
}

func inTree(t *testing.T, tr *tree.Tree) map[string]string {
	t.Helper()
	links := map[*tree.Inode]uint64{}
	require.NoError(t, tr.Walk(func(_ string, n *tree.Inode) error {
		if !n.IsDir() {
			links[n]++
		}
		return nil
	}))
	all := map[string]string{}
	require.NoError(t, tr.Walk(func(path string, n *tree.Inode) (err error) {
		all[path], err = line(n.Mode, n.UID, n.GID, n.Major, n.Minor, n.MTime, links[n], n.Target, n.Xattrs, n.Reader())
		return err
	}))
	return all
}

// pushArchive puts all blobs of an OCI layout into a repository, and its image under a
// tag.
func pushArchive(t *testing.T, s *registrytest.Server, repository, path string) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	docs := map[string][]byte{}
	var index spec.Index
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		body, err := io.ReadAll(r)
		require.NoError(t, err)
		switch {
		case h.Name == "index.json":
			require.NoError(t, json.Unmarshal(body, &index))
		case strings.HasPrefix(h.Name, "blobs/"):
			docs[filepath.Base(h.Name)] = body
			s.PutBlob(t, repository, body)
		}
	}
	var put func(tag string, d spec.Descriptor)
	put = func(tag string, d spec.Descriptor) {
		body := docs[d.Digest.Encoded()]
		if d.MediaType == spec.MediaTypeImageIndex {
			var inner spec.Index
			require.NoError(t, json.Unmarshal(body, &inner))
			for _, m := range inner.Manifests {
				put("", m)
			}
		}
		s.PutManifest(t, repository, tag, d.MediaType, body)
	}
	put("latest", index.Manifests[0])
}

// TestLayeredImage pulls a Debian with python3 and node in 15 layers, which hide, replace
// and link to each other's files, and compares its root with what umoci makes of it. It
// must run as root, as umoci needs it for owners, devices and capabilities.
func TestLayeredImage(t *testing.T) {
	dir := testImages(t, "layered")
	s, c := registrytest.New(t), open(t)
	pushArchive(t, s, "layered", filepath.Join(dir, "layered-oci.tar"))
	pulled, err := c.Pull(t.Context(), s.Host()+"/layered", client(t, quick), PullOptions{})
	require.NoError(t, err)
	require.Len(t, pulled.Layers, 15)
	loaded := loadFile(t, filepath.Join(dir, "layered.tar"))
	for n, l := range pulled.Layers {
		one, err := os.ReadFile(l.Image)
		require.NoError(t, err)
		two, err := os.ReadFile(loaded.Layers[n].Image)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(one, two), "layer %d", n)
	}
	same(t, pulled, pulled) // for fsck

	work := t.TempDir()
	layout := filepath.Join(work, "layout")
	require.NoError(t, os.Mkdir(layout, 0o700))
	command(t, "tar", "-C", layout, "-xf", filepath.Join(dir, "layered-oci.tar"))
	// umoci wants one image behind a name, not one for each platform.
	only := spec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []spec.Descriptor{{MediaType: pulled.MediaType, Digest: pulled.ManifestDigest,
		Size: int64(len(pulled.RawManifest)), Annotations: map[string]string{spec.AnnotationRefName: "latest"}}}}
	require.NoError(t, os.WriteFile(filepath.Join(layout, "index.json"), []byte(text(t, only)), 0o600))
	command(t, "umoci", "unpack", "--image", layout+":latest", filepath.Join(work, "bundle"))
	want, got := onHost(t, filepath.Join(work, "bundle", "rootfs")), inTree(t, mounted(t, pulled))
	assert.Greater(t, len(want), 9000)
	assert.Len(t, got, len(want))
	for path, line := range want {
		if got[path] != line {
			assert.Equal(t, line, got[path], path)
		}
	}
	tr := mounted(t, pulled)
	assert.Same(t, tr.Lookup("opt/layers/linked"), tr.Lookup("opt/layers/linked2"), "a hard link across layers")
	assert.NotEmpty(t, tr.Lookup("usr/bin/ping").Xattrs)
}
