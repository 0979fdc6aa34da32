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
		assert.Positive(t, i.RootImageSize)
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
	assert.NoFileExists(t, all[1].RootImage)
	assert.NoFileExists(t, all[1].VMDK)
	assert.FileExists(t, all[1].RootImage+".lock", "lock files stay")
	_, _, err = c.Remove(t.Context(), "alias")
	assert.ErrorIs(t, err, oci.ErrNotFound)
	assert.FileExists(t, all[0].RootImage)
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
	moved := filepath.Join(t.TempDir(), "elsewhere")
	require.NoError(t, os.Rename(c.dir, moved))
	c, err = Open(moved)
	require.NoError(t, err)
	i, err := c.Image(t.Context(), "app")
	require.NoError(t, err)
	text, err := os.ReadFile(i.VMDK)
	require.NoError(t, err)
	assert.Contains(t, string(text), c.dir)
	assert.True(t, strings.HasPrefix(i.RootImage, c.dir))
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

func TestDamagedRootImageIsMadeAgain(t *testing.T) {
	t.Parallel()
	raw := docker(t, image("app", base(t), top(t)))
	for name, damage := range map[string]func(path string) error{
		"removed":   os.Remove,
		"emptied":   func(path string) error { return os.Truncate(path, 0) },
		"cut short": func(path string) error { return os.Truncate(path, 8192) },
	} {
		c := open(t)
		got, err := load(t, c, raw, LoadOptions{})
		require.NoError(t, err)
		require.NoError(t, damage(got[0].RootImage))
		_, err = c.Image(t.Context(), "app")
		assert.ErrorIs(t, err, oci.ErrNotFound, name)
		all, err := c.List(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 1)
		assert.Zero(t, all[0].RootImageSize, name)
		got, err = load(t, c, raw, LoadOptions{})
		require.NoError(t, err)
		checkRoot(t, got[0])
	}
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
	stale, fresh, other := filepath.Join(c.tmp(), "1-x.erofs"+partSuffix), filepath.Join(c.tmp(), "2-x.erofs"+partSuffix), filepath.Join(c.tmp(), "other")
	for _, path := range []string{stale, fresh, other} {
		require.NoError(t, os.WriteFile(path, nil, 0o600))
	}
	past := time.Now().Add(-25 * time.Hour)
	require.NoError(t, os.Chtimes(stale, past, past))
	require.NoError(t, os.Chtimes(other, past, past))
	c.sweep(time.Now())
	assert.NoFileExists(t, stale)
	assert.FileExists(t, fresh)
	assert.FileExists(t, other)
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
