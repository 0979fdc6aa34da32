package cache

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/archive"
	"github.com/gomsb/gomsb/rootfs/tree"
)

// described lists all of a merged tree.
func described(t testing.TB, i *oci.Image) []string {
	t.Helper()
	all := []string{}
	tr := mounted(t, i)
	require.NoError(t, tr.Walk(func(path string, n *tree.Inode) error {
		data, err := io.ReadAll(n.Reader())
		require.NoError(t, err)
		all = append(all, strings.Join([]string{path, itoa(int(n.Mode)), itoa(int(n.UID)), n.Target, string(data), itoa(int(n.MTime.Sec)), itoa(len(n.Xattrs))}, " "))
		return nil
	}))
	return all
}

func TestSaveLoadSave(t *testing.T) {
	t.Parallel()
	c := open(t)
	first, err := load(t, c, docker(t, image("app:v1", base(t), top(t)), image("reg.example/second", base(t), other(t))), LoadOptions{Tags: []string{"alias"}})
	require.NoError(t, err)
	for _, format := range []archive.Format{archive.Docker, archive.OCI} {
		var one, two bytes.Buffer
		require.NoError(t, c.Save(t.Context(), &one, format, "app:v1", "reg.example/second", "alias"))
		require.NoError(t, c.Save(t.Context(), &two, format, "app:v1", "reg.example/second", "alias"))
		assert.True(t, bytes.Equal(one.Bytes(), two.Bytes()), "%s: two archives differ", format)
		again := open(t)
		got, err := load(t, again, one.Bytes(), LoadOptions{})
		require.NoError(t, err, format)
		require.Len(t, got, 3)
		byName := map[string]*oci.Image{}
		for _, i := range got {
			byName[i.Reference] = i
		}
		for _, want := range first {
			i := byName[want.Reference]
			require.NotNil(t, i, "%s: %s", format, want.Reference)
			assert.Equal(t, described(t, want), described(t, i), "%s: %s", format, want.Reference)
			assert.Equal(t, want.Config, i.Config)
		}
		checkRoot(t, byName[first[0].Reference])
		var third bytes.Buffer
		require.NoError(t, again.Save(t.Context(), &third, format, "app:v1", "reg.example/second", "alias"))
		assert.True(t, bytes.Equal(one.Bytes(), third.Bytes()), "%s: an archive of what was loaded from an archive is the same", format)

		layers := 0
		for r := tar.NewReader(&one); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			if h.Size > 2000 {
				layers++
			}
		}
		assert.Equal(t, 3, layers, "%s: what images share is written once", format)
	}
}

func TestSaveKeepsTheConfiguration(t *testing.T) {
	t.Parallel()
	c := open(t)
	s := image("app", base(t))
	odd := strings.Replace(s.config(t), "{", `{"history":[{"created_by":"x <y>"}],"x.vendor":{"deep":[1,2.50]},`, 1)
	raw := pack(t, file("c.json", odd), file("l/layer.tar", string(base(t))), file("manifest.json", `[{"Config":"c.json","RepoTags":["app"],"Layers":["l/layer.tar"]}]`))
	_, err := load(t, c, raw, LoadOptions{})
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, c.Save(t.Context(), &b, archive.Docker, "app"))
	got, err := load(t, open(t), b.Bytes(), LoadOptions{})
	require.NoError(t, err)
	var want, have map[string]any
	require.NoError(t, json.Unmarshal([]byte(odd), &want))
	require.NoError(t, json.Unmarshal(got[0].RawConfig, &have))
	delete(want, "rootfs")
	delete(have, "rootfs")
	assert.Equal(t, want, have)
}

func TestSaveErrors(t *testing.T) {
	t.Parallel()
	c := open(t)
	got, err := load(t, c, docker(t, image("app", base(t))), LoadOptions{})
	require.NoError(t, err)
	assert.ErrorIs(t, c.Save(t.Context(), io.Discard, archive.Docker, "unknown"), oci.ErrNotFound)
	assert.ErrorIs(t, c.Save(t.Context(), io.Discard, archive.Docker, "Not A Reference"), oci.ErrReference)
	assert.ErrorIs(t, c.Save(t.Context(), io.Discard, "zip", "app"), oci.ErrArchive)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, c.Save(ctx, io.Discard, archive.OCI, "app"), context.Canceled)
	require.NoError(t, os.Truncate(got[0].Layers[0].Image, 4096))
	assert.ErrorIs(t, c.Save(t.Context(), io.Discard, archive.Docker, "app"), oci.ErrNotFound)
}
