package cache

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/ref"
	"github.com/gomsb/gomsb/oci/registry/registrytest"
	"github.com/gomsb/gomsb/rootfs/erofs"
	"github.com/gomsb/gomsb/rootfs/stitch"
)

func TestListAndRemove(t *testing.T) {
	t.Parallel()
	c := open(t)
	_, err := load(t, c, docker(t, image("first", base(t))), LoadOptions{Tags: []string{"alias"}})
	require.NoError(t, err)
	old := time.Now().Add(-time.Hour)
	for _, path := range files(t, c) {
		require.NoError(t, os.Chtimes(path, old, old))
	}
	_, err = load(t, c, docker(t, image("newer", other(t))), LoadOptions{})
	require.NoError(t, err)
	all, err := c.List(t.Context())
	require.NoError(t, err)
	var names []string
	for _, i := range all {
		names = append(names, i.Reference[strings.LastIndexByte(i.Reference, '/')+1:])
		assert.Positive(t, i.DiskSize)
	}
	assert.Equal(t, []string{"newer:latest", "alias:latest", "first:latest"}, names)

	manifest, last, err := c.Remove(t.Context(), "first")
	require.NoError(t, err)
	assert.False(t, last)
	assert.Equal(t, all[1].ManifestDigest, manifest)
	_, err = c.Image(t.Context(), "first")
	assert.ErrorIs(t, err, oci.ErrNotFound)
	_, err = c.Image(t.Context(), "alias")
	assert.NoError(t, err)
	_, last, err = c.Remove(t.Context(), "alias")
	require.NoError(t, err)
	assert.True(t, last)
	assert.NoFileExists(t, all[1].VMDK)
	assert.NoFileExists(t, all[1].Layers[0].Image)
	assert.FileExists(t, all[1].Layers[0].Image+".lock", "lock files stay")
	_, _, err = c.Remove(t.Context(), "alias")
	assert.ErrorIs(t, err, oci.ErrNotFound)
	assert.Len(t, files(t, c), 4, "of the other image nothing is gone")
	mounted(t, all[0])
}

func TestImageUnknown(t *testing.T) {
	t.Parallel()
	c := open(t)
	_, err := c.Image(t.Context(), "nothing")
	assert.ErrorIs(t, err, oci.ErrNotFound)
	_, err = c.Image(t.Context(), "No Reference")
	assert.ErrorIs(t, err, oci.ErrReference)
	all, err := c.List(t.Context())
	assert.NoError(t, err)
	assert.Empty(t, all)
}

func TestMovedCache(t *testing.T) {
	t.Parallel()
	c := open(t)
	_, err := load(t, c, docker(t, image("app", base(t))), LoadOptions{})
	require.NoError(t, err)
	old, moved := c.dir, filepath.Join(t.TempDir(), "elsewhere")
	require.NoError(t, os.Rename(c.dir, moved))
	c, err = Open(moved)
	require.NoError(t, err)
	i, err := c.Image(t.Context(), "app")
	require.NoError(t, err)
	text, err := os.ReadFile(i.VMDK)
	require.NoError(t, err)
	assert.Contains(t, string(text), c.dir)
	assert.NotContains(t, string(text), old)
	mounted(t, i)
	vmdk, size, err := c.Disk(t.Context(), i.ManifestDigest)
	require.NoError(t, err)
	assert.Equal(t, []any{i.VMDK, i.DiskSize}, []any{vmdk, size})
}

func TestCachePathIsCanonical(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "real"), 0o700))
	require.NoError(t, os.Symlink("real", filepath.Join(dir, "link")))
	c, err := Open(filepath.Join(dir, "link", "cache"))
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(c.dir, "/real/cache"), c.dir)
}

func TestDamagedFilesAreMadeAgain(t *testing.T) {
	t.Parallel()
	raw := docker(t, image("app", base(t), top(t)))
	for name, damage := range map[string]func(path string) error{
		"removed":   os.Remove,
		"emptied":   func(path string) error { return os.Truncate(path, 0) },
		"cut short": func(path string) error { return os.Truncate(path, 4096) },
		"replaced":  func(path string) error { return os.WriteFile(path, make([]byte, 8192), 0o600) },
	} {
		c := open(t)
		got, err := load(t, c, raw, LoadOptions{})
		require.NoError(t, err)
		require.NoError(t, damage(got[0].Layers[0].Image))
		_, err = c.Image(t.Context(), "app")
		assert.ErrorIs(t, err, oci.ErrNotFound, name)
		_, _, err = c.Disk(t.Context(), got[0].ManifestDigest)
		assert.ErrorIs(t, err, oci.ErrNotFound, name)
		all, err := c.List(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 1)
		assert.Zero(t, all[0].DiskSize, name)
		got, err = load(t, c, raw, LoadOptions{})
		require.NoError(t, err)
		checkRoot(t, got[0])

		// What follows from the layers is made without the archive.
		for _, path := range []string{fsmeta(t, got[0]), got[0].VMDK} {
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, damage(path))
			i, err := c.Image(t.Context(), "app")
			require.NoError(t, err, name)
			checkRoot(t, i)
			again, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.True(t, string(want) == string(again), "%s: fsmeta from layer images and from their archive differ", name)
		}
	}
}

// TestLayersAreShared: a layer that two images have exists once, and as long as either.
func TestLayersAreShared(t *testing.T) {
	t.Parallel()
	c := open(t)
	one, err := load(t, c, docker(t, image("one", base(t), top(t))), LoadOptions{})
	require.NoError(t, err)
	started := 0
	two, err := load(t, c, docker(t, image("two", base(t), other(t), base(t))), LoadOptions{Progress: func(e oci.Event) {
		if e.Kind == oci.EventMaterializeStarted {
			started++
		}
	}})
	require.NoError(t, err)
	assert.Equal(t, 1, started, "only the new layer is converted")
	assert.Equal(t, one[0].Layers[0].Image, two[0].Layers[0].Image)
	assert.Equal(t, two[0].Layers[0].Image, two[0].Layers[2].Image)
	assert.Equal(t, "layer", content(t, mounted(t, two[0]), "other"))
	assert.Equal(t, "root:x:0:0", content(t, mounted(t, two[0]), "etc/passwd"))

	_, _, err = c.Remove(t.Context(), "one")
	require.NoError(t, err)
	assert.FileExists(t, two[0].Layers[0].Image)
	assert.NoFileExists(t, one[0].Layers[1].Image)
	again, err := c.Image(t.Context(), "two")
	require.NoError(t, err)
	mounted(t, again)
}

// TestDiskOutlivesItsReference: a sandbox keeps the image it was made from when the
// reference comes to mean another.
func TestDiskOutlivesItsReference(t *testing.T) {
	t.Parallel()
	c := open(t)
	old, err := load(t, c, docker(t, image("app", base(t), top(t))), LoadOptions{})
	require.NoError(t, err)
	_, err = load(t, c, docker(t, image("app", base(t), other(t))), LoadOptions{})
	require.NoError(t, err)
	_, _, err = c.Remove(t.Context(), "app")
	require.NoError(t, err)
	vmdk, size, err := c.Disk(t.Context(), old[0].ManifestDigest)
	require.NoError(t, err)
	assert.Equal(t, []any{old[0].VMDK, old[0].DiskSize}, []any{vmdk, size})
	checkRoot(t, old[0])
	_, _, err = c.Disk(t.Context(), digest.FromString("unknown"))
	assert.ErrorIs(t, err, oci.ErrNotFound)
	_, _, err = c.Disk(t.Context(), "sha256:../../x")
	assert.ErrorIs(t, err, oci.ErrManifest)
}

// layOutAnew replaces the image of a layer by one that is laid out as another program
// might do it: metadata first.
func layOutAnew(t *testing.T, c *Cache, l oci.Layer) {
	t.Helper()
	f, err := os.Open(l.Image)
	require.NoError(t, err)
	defer f.Close()
	r, err := erofs.NewReader(f, l.ImageSize)
	require.NoError(t, err)
	changes, err := r.ReadLayer(1000)
	require.NoError(t, err)
	require.NoError(t, c.publish(l.Image, func(w io.Writer) error {
		_, err := erofs.Build(w, changes)
		return err
	}))
}

// TestForcedPullRefitsOtherImages: after it made a shared layer anew in its own layout,
// other programs must not find fsmeta images for the old one.
func TestForcedPullRefitsOtherImages(t *testing.T) {
	t.Parallel()
	s, c := registrytest.New(t), open(t)
	s.Push(t, "one", "latest", registrytest.Image{Layers: [][]byte{base(t), top(t)}})
	s.Push(t, "two", "latest", registrytest.Image{Layers: [][]byte{base(t), other(t)}})
	one, err := c.Pull(t.Context(), s.Host()+"/one", client(t, quick), PullOptions{})
	require.NoError(t, err)
	two, err := c.Pull(t.Context(), s.Host()+"/two", client(t, quick), PullOptions{})
	require.NoError(t, err)
	layOutAnew(t, c, one.Layers[0])
	two, err = c.Image(t.Context(), two.Reference)
	require.NoError(t, err)
	assert.Equal(t, "root:x:0:0", content(t, mounted(t, two), "etc/passwd"))

	_, err = c.Pull(t.Context(), s.Host()+"/one", client(t, quick), PullOptions{Force: true})
	require.NoError(t, err)
	text, err := os.ReadFile(two.VMDK)
	require.NoError(t, err)
	extents, err := stitch.Parse(text)
	require.NoError(t, err)
	two.DiskSize = 0
	for _, e := range extents {
		two.DiskSize += e.Size
	}
	assert.Equal(t, "root:x:0:0", content(t, mounted(t, two), "etc/passwd"), "nobody asked our cache for the image meanwhile")
}

// TestFsmetaFollowsTheLayers: another program may lay out a layer in its own way after
// the fsmeta image was made, which then must not be used any more.
func TestFsmetaFollowsTheLayers(t *testing.T) {
	t.Parallel()
	c := open(t)
	got, err := load(t, c, docker(t, image("app", base(t), top(t))), LoadOptions{})
	require.NoError(t, err)
	layOutAnew(t, c, got[0].Layers[0])
	i, err := c.Image(t.Context(), "app")
	require.NoError(t, err)
	assert.Equal(t, "root:x:0:0", content(t, mounted(t, i), "etc/passwd"))
	vmdk, _, err := c.Disk(t.Context(), i.ManifestDigest)
	require.NoError(t, err)
	assert.Equal(t, i.VMDK, vmdk)
}

func TestForeignAndBrokenDocuments(t *testing.T) {
	t.Parallel()
	c := open(t)
	got, err := load(t, c, docker(t, image("app", base(t))), LoadOptions{})
	require.NoError(t, err)
	write := func(name, body string) {
		require.NoError(t, os.WriteFile(filepath.Join(c.dir, manifestsDir, name), []byte(body), 0o600))
	}
	d := digest.FromString("x")
	write("foreign.json", `{"manifest_digest":"`+d.String()+`","config_digest":"`+d.String()+`","raw_config_json":"{}","layers":[]}`)
	write("broken.json", "{")
	write("hostile.json", `{"manifest_digest":"sha256:../../../etc","config_digest":"`+d.String()+`"}`)
	all, err := c.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
	assert.Equal(t, got[0].Reference, all[0].Reference)
	_, last, err := c.Remove(t.Context(), "app")
	assert.NoError(t, err)
	assert.True(t, last)
}

func TestSweep(t *testing.T) {
	t.Parallel()
	c := open(t)
	now := time.Now()
	var kept, gone []string
	add := func(name string, age time.Duration, list *[]string) string {
		path := filepath.Join(c.tmp(), name)
		require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
		require.NoError(t, os.Chtimes(path, now.Add(-age), now.Add(-age)))
		*list = append(*list, path)
		return path
	}
	add("a.erofs.1"+newSuffix, time.Second, &kept)
	add("b.erofs.1"+newSuffix, 2*time.Minute, &gone)
	add("sha256_1.part", 23*time.Hour, &kept)
	add("sha256_2.part", 25*time.Hour, &gone)
	add("sha256_2.download.lock", 25*time.Hour, &kept)
	held, err := acquire(t.Context(), add("c.erofs.1"+newSuffix, 2*time.Minute, &kept))
	require.NoError(t, err)
	defer held.release()
	removed, bytes := c.sweep(now)
	assert.Equal(t, 2, removed)
	assert.Positive(t, bytes)
	for _, path := range kept {
		assert.FileExists(t, path)
	}
	for _, path := range gone {
		assert.NoFileExists(t, path)
	}
}

func TestPublishReplacesWholly(t *testing.T) {
	t.Parallel()
	c := open(t)
	path := filepath.Join(c.dir, "file")
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
	body := strings.Repeat("\x00", 200<<10) + "x" + strings.Repeat("\x00", 200<<10)
	require.NoError(t, c.publish(path, func(w io.Writer) error {
		_, err := w.Write([]byte(body))
		return err
	}))
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, string(got) == body)
	err = c.publish(path, func(io.Writer) error { return os.ErrInvalid })
	assert.ErrorIs(t, err, os.ErrInvalid)
	left, err := os.ReadDir(c.tmp())
	require.NoError(t, err)
	assert.Empty(t, left)
	got, err = os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, string(got) == body)
}

// FuzzLoad stores what archives of damaged bytes give; whatever is stored must read
// back.
func FuzzLoad(f *testing.F) {
	f.Add(docker(f, image("app", base(f), top(f))))
	f.Add(zip(f, docker(f, image("app", top(f)))))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := open(t)
		c.Limits.Archive.Outer.Bytes, c.Limits.Blob.Bytes, c.Limits.Layer.LayerBytes, c.Limits.Layer.FileBytes = 4<<20, 4<<20, 4<<20, 4<<20
		got, err := load(t, c, raw, LoadOptions{Tags: []string{"fuzz"}})
		if err != nil {
			return
		}
		for _, i := range got {
			mounted(t, i)
		}
	})
}

// FuzzLayer is FuzzLoad with an archive that is right around a damaged layer.
func FuzzLayer(f *testing.F) {
	f.Add(base(f))
	f.Add(top(f))
	f.Fuzz(func(t *testing.T, layer []byte) {
		c := open(t)
		c.Limits.Layer.LayerBytes, c.Limits.Layer.FileBytes = 4<<20, 4<<20
		got, err := load(t, c, docker(t, image("app", layer)), LoadOptions{})
		if err == nil {
			mounted(t, got[0])
		}
	})
}

func TestPrune(t *testing.T) {
	t.Parallel()
	c := open(t)
	kept, err := load(t, c, docker(t, image("kept", base(t), top(t))), LoadOptions{Tags: []string{"alias"}})
	require.NoError(t, err)
	old, err := load(t, c, docker(t, image("moved", base(t), pack(t, file("old", "x")))), LoadOptions{})
	require.NoError(t, err)
	_, err = load(t, c, docker(t, image("moved", base(t), other(t))), LoadOptions{})
	require.NoError(t, err)
	busy, err := load(t, c, docker(t, image("busy", pack(t, file("busy", "x")))), LoadOptions{})
	require.NoError(t, err)
	r, err := ref.Parse("busy")
	require.NoError(t, err)
	held, err := acquire(t.Context(), c.referenceLock(r))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(c.dir, manifestsDir, "broken.json"), []byte("{"), 0o600))

	p, err := c.Prune(t.Context(), map[digest.Digest]bool{kept[0].ManifestDigest: true, old[0].ManifestDigest: true})
	require.NoError(t, err)
	assert.Equal(t, Pruned{References: 2, Fsmeta: 1, VMDK: 1, Layers: 1, Bytes: p.Bytes}, p, "the image that moved has now, and a document that is none")
	assert.Greater(t, p.Bytes, int64(8192))
	mounted(t, kept[0])
	mounted(t, old[0])
	mounted(t, busy[0])
	held.release()

	p, err = c.Prune(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, 3, p.References)
	assert.Equal(t, 3, p.Fsmeta)
	assert.Equal(t, 4, p.Layers)
	assert.Empty(t, files(t, c))
	p, err = c.Prune(t.Context(), nil)
	require.NoError(t, err)
	assert.Zero(t, p)
}
