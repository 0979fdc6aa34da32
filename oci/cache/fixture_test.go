package cache

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/manifest"
	"github.com/gomsb/gomsb/oci/registry/registrytest"
	"github.com/gomsb/gomsb/rootfs/erofs"
	"github.com/gomsb/gomsb/rootfs/stitch"
	"github.com/gomsb/gomsb/rootfs/tree"
)

// entry is a member of a tar file.
type entry struct {
	tar.Header
	body string
}

func file(name, body string) entry { return entry{tar.Header{Name: name, Mode: 0o644}, body} }

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.body))
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1_600_000_000, 0)
		}
		require.NoError(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, e.body)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func zip(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

func squeeze(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	return w.EncodeAll(data, nil)
}

// source is an image to put into an archive: blobs as stored, layers as plain tar.
type source struct {
	tags          []string
	layers, blobs [][]byte
}

func image(tag string, layers ...[]byte) source {
	return source{tags: []string{tag}, layers: layers, blobs: layers}
}

func (s source) config(t testing.TB) string {
	t.Helper()
	ids := []digest.Digest{}
	for _, l := range s.layers {
		ids = append(ids, digest.FromBytes(l))
	}
	return text(t, map[string]any{"os": "linux", "architecture": "amd64", "config": map[string]any{"Env": []string{"A=b"}, "Cmd": []string{"/bin/sh"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids}})
}

func text(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	require.NoError(t, err)
	return string(data)
}

// docker makes a docker-save archive.
func docker(t testing.TB, images ...source) []byte {
	t.Helper()
	type item struct {
		Config           string
		RepoTags, Layers []string
	}
	var entries []entry
	var list []item
	for _, s := range images {
		cfg := s.config(t)
		i := item{Config: digest.FromString(cfg).Encoded() + ".json", RepoTags: s.tags}
		entries = append(entries, file(i.Config, cfg))
		for n, l := range s.blobs {
			name := digest.FromBytes(s.layers[n]).Encoded() + "/layer.tar"
			i.Layers = append(i.Layers, name)
			entries = append(entries, file(name, string(l)))
		}
		list = append(list, i)
	}
	return pack(t, append(entries, file("manifest.json", text(t, list)))...)
}

// layout makes an OCI-layout archive of one image; the media types follow the magic.
func layout(t testing.TB, s source, mediaType string) []byte {
	t.Helper()
	var entries []entry
	add := func(mediaType, body string) spec.Descriptor {
		d := digest.FromString(body)
		entries = append(entries, file("blobs/sha256/"+d.Encoded(), body))
		return spec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}
	}
	m := spec.Manifest{MediaType: spec.MediaTypeImageManifest, Config: add(spec.MediaTypeImageConfig, s.config(t))}
	m.SchemaVersion = 2
	for _, b := range s.blobs {
		m.Layers = append(m.Layers, add(mediaType, string(b)))
	}
	top := add(spec.MediaTypeImageManifest, text(t, m))
	top.Annotations = map[string]string{spec.AnnotationRefName: s.tags[0]}
	index := spec.Index{Manifests: []spec.Descriptor{top}}
	index.SchemaVersion = 2
	return pack(t, append(entries, file("oci-layout", `{"imageLayoutVersion":"1.0.0"}`), file("index.json", text(t, index)))...)
}

func open(t testing.TB) *Cache {
	t.Helper()
	c, err := Open(filepath.Join(t.TempDir(), "cache"))
	require.NoError(t, err)
	c.Platform = manifest.Platform{OS: "linux", Architecture: "amd64"}
	return c
}

func load(t testing.TB, c *Cache, raw []byte, opts LoadOptions) ([]*oci.Image, error) {
	t.Helper()
	return c.Load(t.Context(), bytes.NewReader(raw), opts)
}

// joined reads the files of a descriptor one after another, as a disk does.
type joined struct {
	files []*os.File
	sizes []int64
}

func (j *joined) ReadAt(p []byte, off int64) (n int, err error) {
	for i, f := range j.files {
		if off >= j.sizes[i] {
			off -= j.sizes[i]
			continue
		}
		got, err := f.ReadAt(p[n:min(int64(len(p)), int64(n)+j.sizes[i]-off)], off)
		if n += got; n == len(p) || err != nil {
			return n, err
		}
		off = 0
	}
	return n, io.EOF
}

// rootDisk opens the root disk of an image and returns the files that it consists of.
func rootDisk(t testing.TB, i *oci.Image) (*joined, []stitch.Extent) {
	t.Helper()
	text, err := os.ReadFile(i.VMDK)
	require.NoError(t, err)
	extents, err := stitch.Parse(text)
	require.NoError(t, err)
	j, total := &joined{}, int64(0)
	for _, e := range extents {
		f, err := os.Open(e.Path)
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		info, err := f.Stat()
		require.NoError(t, err)
		require.Equal(t, e.Size, info.Size())
		j.files, j.sizes, total = append(j.files, f), append(j.sizes, e.Size), total+e.Size
	}
	require.Equal(t, total, i.DiskSize)
	return j, extents
}

// mounted reads the root file system of an image from its disk.
func mounted(t testing.TB, i *oci.Image) *tree.Tree {
	t.Helper()
	j, _ := rootDisk(t, i)
	r, err := erofs.NewReader(j, i.DiskSize)
	require.NoError(t, err)
	tr, err := r.Tree(1_000_000)
	require.NoError(t, err)
	return tr
}

// fsmeta is the path of an image's fsmeta image.
func fsmeta(t testing.TB, i *oci.Image) string {
	t.Helper()
	_, extents := rootDisk(t, i)
	return extents[0].Path
}

func content(t testing.TB, tr *tree.Tree, path string) string {
	t.Helper()
	n := tr.Lookup(path)
	require.NotNil(t, n, path)
	data, err := io.ReadAll(n.Reader())
	require.NoError(t, err)
	return string(data) + n.Target
}

// files lists what a cache holds except locks.
func files(t testing.TB, c *Cache) []string {
	t.Helper()
	var all []string
	require.NoError(t, filepath.WalkDir(c.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && filepath.Ext(path) != ".lock" {
			all = append(all, path)
		}
		return err
	}))
	return all
}

// images is files without layer images, which may remain of an image that failed.
func images(t testing.TB, c *Cache) []string {
	t.Helper()
	return slices.DeleteFunc(files(t, c), func(path string) bool { return filepath.Base(filepath.Dir(path)) == layersDir })
}

// fetch reads a document of a registry.
func fetch(t testing.TB, s *registrytest.Server, path string) []byte {
	t.Helper()
	r, err := http.Get(s.URL + path)
	require.NoError(t, err)
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	http.DefaultClient.CloseIdleConnections()
	return body
}

func itoa(n int) string { return strconv.Itoa(n) }
