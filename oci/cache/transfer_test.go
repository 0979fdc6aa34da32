package cache

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/ref"
)

// carried are the files of an image by their names.
func carried(t *testing.T, c *Cache, reference string) map[string][]byte {
	t.Helper()
	list, release, err := c.Files(t.Context(), reference)
	require.NoError(t, err)
	defer release()
	all := map[string][]byte{}
	for _, f := range list {
		all[f.Name], err = os.ReadFile(f.Path)
		require.NoError(t, err)
	}
	return all
}

// bring imports files, and returns what Commit did.
func bring(t *testing.T, c *Cache, all map[string][]byte, wanted map[digest.Digest]ref.Reference) (stored []*oci.Image, err error) {
	t.Helper()
	i := c.NewImport()
	defer func() { require.NoError(t, i.Close()) }()
	for name, b := range all {
		if err := i.Add(t.Context(), name, int64(len(b)), bytes.NewReader(b)); err != nil {
			return nil, err
		}
	}
	return i.Commit(t.Context(), wanted)
}

func pinned(t *testing.T, i *oci.Image) (ref.Reference, map[digest.Digest]ref.Reference) {
	t.Helper()
	r, err := ref.Parse(i.Reference)
	require.NoError(t, err)
	r = r.WithDigest(i.ManifestDigest)
	return r, map[digest.Digest]ref.Reference{i.ManifestDigest: r}
}

func TestTransfer(t *testing.T) {
	t.Parallel()
	from, to := open(t), open(t)
	loaded, err := load(t, from, docker(t, image("app", base(t), top(t))), LoadOptions{})
	require.NoError(t, err)
	all := carried(t, from, "app")
	require.Len(t, all, 5, "document, fsmeta, descriptor, two layers")
	r, wanted := pinned(t, loaded[0])

	none, err := bring(t, to, all, nil)
	require.NoError(t, err)
	require.Empty(t, none)
	require.Empty(t, files(t, to), "nothing is wanted")

	stored, err := bring(t, to, all, wanted)
	require.NoError(t, err)
	require.Len(t, stored, 1)
	assert.Equal(t, r.String(), stored[0].Reference)
	checkRoot(t, stored[0])
	text, err := os.ReadFile(stored[0].VMDK)
	require.NoError(t, err)
	assert.Contains(t, string(text), to.dir, "the descriptor is made anew")
	again, err := bring(t, to, all, wanted)
	require.NoError(t, err)
	assert.Equal(t, stored[0].DiskSize, again[0].DiskSize)
	entries, err := os.ReadDir(to.tmp())
	require.NoError(t, err)
	assert.Empty(t, entries)
}

// TestTransferBesideOtherLayout imports an image a layer of which is there in another
// layout: the one that is there stays, and the disk fits it.
func TestTransferBesideOtherLayout(t *testing.T) {
	t.Parallel()
	from, to := open(t), open(t)
	loaded, err := load(t, from, docker(t, image("app", base(t), top(t))), LoadOptions{})
	require.NoError(t, err)
	all := carried(t, from, "app")
	other, err := load(t, to, docker(t, image("base", base(t))), LoadOptions{})
	require.NoError(t, err)
	layOutAnew(t, to, other[0].Layers[0])
	before, err := os.ReadFile(other[0].Layers[0].Image)
	require.NoError(t, err)
	_, wanted := pinned(t, loaded[0])
	stored, err := bring(t, to, all, wanted)
	require.NoError(t, err)
	after, err := os.ReadFile(other[0].Layers[0].Image)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(before, after))
	checkRoot(t, stored[0])
}

func TestTransferRefuses(t *testing.T) {
	t.Parallel()
	from := open(t)
	loaded, err := load(t, from, docker(t, image("app", base(t), top(t))), LoadOptions{})
	require.NoError(t, err)
	_, wanted := pinned(t, loaded[0])
	names := map[string]string{}
	for name := range carried(t, from, "app") {
		dir, _, _ := strings.Cut(name, "/")
		names[dir] = name
	}
	for name, c := range map[string]struct {
		want   error
		change func(all map[string][]byte)
	}{
		"another manifest": {oci.ErrDigestMismatch, func(all map[string][]byte) {
			replace(all, names["manifests"], `"raw_manifest_json":"{`, `"raw_manifest_json":"{ `)
		}},
		"another config": {oci.ErrDigestMismatch, func(all map[string][]byte) {
			replace(all, names["manifests"], `"raw_config_json":"{`, `"raw_config_json":"{ `)
		}},
		"no document": {oci.ErrManifest, func(all map[string][]byte) { all[names["manifests"]] = []byte("{") }},
		"digests as paths": {oci.ErrManifest, func(all map[string][]byte) {
			replace(all, names["manifests"], `"config_digest":"sha256:`, `"config_digest":"../../../`)
		}},
		"layer missing":     {oci.ErrNotFound, func(all map[string][]byte) { delete(all, names["layers"]) }},
		"layer damaged":     {oci.ErrLayer, func(all map[string][]byte) { clear(all[names["layers"]][1024:2048]) }},
		"layer of any name": {oci.ErrManifest, func(all map[string][]byte) { all["layers/x.erofs"] = nil }},
	} {
		to := open(t)
		all := carried(t, from, "app")
		c.change(all)
		_, err := bring(t, to, all, wanted)
		require.ErrorIs(t, err, c.want, name)
		_, err = to.Image(t.Context(), wanted[loaded[0].ManifestDigest].String())
		require.ErrorIs(t, err, oci.ErrNotFound, name)
		entries, err := os.ReadDir(to.tmp())
		require.NoError(t, err)
		assert.Empty(t, entries, name)
	}
	to := open(t)
	to.Limits.ImageBytes = 4096
	_, err = bring(t, to, carried(t, from, "app"), wanted)
	require.ErrorIs(t, err, oci.ErrLimit)
	_, _, err = from.Files(t.Context(), "nothing")
	require.ErrorIs(t, err, oci.ErrNotFound)
	require.NoError(t, os.Remove(loaded[0].Layers[0].Image))
	_, _, err = from.Files(t.Context(), "app")
	require.ErrorIs(t, err, oci.ErrNotFound)
}

// TestTransferBoundsDocuments adds documents that are small enough each.
func TestTransferBoundsDocuments(t *testing.T) {
	t.Parallel()
	from, to := open(t), open(t)
	_, err := load(t, from, docker(t, image("app", base(t))), LoadOptions{})
	require.NoError(t, err)
	all := carried(t, from, "app")
	add := func(i *Import) error {
		for name, content := range all {
			if strings.HasPrefix(name, manifestsDir) {
				return i.Add(t.Context(), name, int64(len(content)), bytes.NewReader(content))
			}
		}
		return nil
	}
	i := to.NewImport()
	require.NoError(t, add(i))
	i.text = maxMetadata - i.text
	require.NoError(t, add(i), "the last that fits")
	require.ErrorIs(t, add(i), oci.ErrLimit)
	require.Len(t, i.documents, 2)
}

func replace(all map[string][]byte, name, from, to string) {
	all[name] = bytes.Replace(all[name], []byte(from), []byte(to), 1)
}

// TestFilesStay finds files that are being read safe from being removed.
func TestFilesStay(t *testing.T) {
	t.Parallel()
	c := open(t)
	_, err := load(t, c, docker(t, image("app", base(t))), LoadOptions{})
	require.NoError(t, err)
	list, release, err := c.Files(t.Context(), "app")
	require.NoError(t, err)
	_, err = c.Prune(t.Context(), nil)
	require.NoError(t, err)
	for _, f := range list {
		if !strings.HasPrefix(f.Name, manifestsDir) {
			assert.FileExists(t, f.Path)
		}
	}
	release()
	_, err = c.Prune(t.Context(), nil)
	require.NoError(t, err)
	assert.Empty(t, files(t, c))
}

func TestImportStopsWithReader(t *testing.T) {
	t.Parallel()
	c := open(t)
	i := c.NewImport()
	broken := io.MultiReader(strings.NewReader("x"), failing{})
	require.ErrorIs(t, i.Add(context.Background(), "layers/sha256_"+strings.Repeat("a", 64)+".erofs", 10, broken), io.ErrClosedPipe)
	require.NoError(t, i.Close())
	entries, err := os.ReadDir(filepath.Join(c.dir, tmpDir))
	require.NoError(t, err)
	assert.Empty(t, entries)
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }
