package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/blob"
)

func layers(t testing.TB, image Image) []string {
	t.Helper()
	var all []string
	for n := range image.Layers {
		data, err := io.ReadAll(image.Open(n))
		require.NoError(t, err)
		all = append(all, string(data))
	}
	return all
}

func TestDocker(t *testing.T) {
	t.Parallel()
	images, err := read(t, docker(t).pack(t), DefaultLimits())
	require.NoError(t, err)
	require.Len(t, images, 1)
	image := images[0]
	assert.Equal(t, []string{"app:v1", "app:v2"}, image.Names)
	assert.Equal(t, []string{"one", "two"}, layers(t, image))
	assert.Equal(t, oci.Layer{DiffID: digest.FromString("one"), BlobDigest: digest.FromString("one"), MediaType: spec.MediaTypeImageLayer, Size: 3}, image.Layers[0])
	assert.Equal(t, digest.FromBytes(image.Manifest), image.ManifestDigest)
	assert.Equal(t, digest.FromBytes(image.Config), image.ConfigDigest)
	assert.Equal(t, oci.Config{Env: []string{"A=b"}, Entrypoint: []string{"/e"}, WorkingDir: "/w", User: "u", StopSignal: "SIGINT",
		ExposedPorts: []string{"80/tcp"}, Volumes: []string{"/v"}, Labels: map[string]string{"l": "m"}}, image.Parsed.Run)
	assert.Equal(t, time.Date(2020, 2, 3, 4, 5, 6, 7e8, time.UTC), image.Parsed.Created)

	again, err := read(t, docker(t).pack(t), DefaultLimits())
	require.NoError(t, err)
	assert.Equal(t, image.ManifestDigest, again[0].ManifestDigest, "a synthetic manifest must be stable")
}

func TestDockerLinkedAndPrefixedMembers(t *testing.T) {
	t.Parallel()
	m := docker(t)
	m["shared/layer.tar"] = m["2/layer.tar"]
	m["2/layer.tar"] = "->../shared/layer.tar"
	m["first"] = m["1/layer.tar"]
	m["1/layer.tar"] = "=>first"
	prefixed := members{}
	for name, body := range m {
		prefixed["./"+name] = body
	}
	for _, m := range []members{m, prefixed} {
		images, err := read(t, m.pack(t), DefaultLimits())
		require.NoError(t, err)
		assert.Equal(t, []string{"one", "two"}, layers(t, images[0]))
	}
}

func TestDockerCompressedLayer(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write([]byte("two"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	m := docker(t)
	m["2/layer.tar"] = b.String()
	images, err := read(t, m.pack(t), DefaultLimits())
	require.NoError(t, err)
	l := images[0].Layers[1]
	assert.Equal(t, oci.Layer{DiffID: digest.FromString("two"), BlobDigest: digest.FromBytes(b.Bytes()), MediaType: spec.MediaTypeImageLayerGzip, Size: int64(b.Len())}, l)
}

func TestDockerRefusals(t *testing.T) {
	t.Parallel()
	cfg := func(m members) string {
		for name := range m {
			if strings.HasSuffix(name, ".json") && name != "manifest.json" {
				return name
			}
		}
		return ""
	}
	for name, c := range map[string]struct {
		want   error
		change func(m members)
	}{
		"no manifest":    {oci.ErrArchive, func(m members) { delete(m, "manifest.json") }},
		"no JSON":        {oci.ErrManifest, func(m members) { m["manifest.json"] = "{" }},
		"another shape":  {oci.ErrManifest, func(m members) { m["manifest.json"] = "{}" }},
		"empty list":     {oci.ErrArchive, func(m members) { m["manifest.json"] = "[]" }},
		"no config":      {oci.ErrArchive, func(m members) { delete(m, cfg(m)) }},
		"wrong config":   {oci.ErrDigestMismatch, func(m members) { m[cfg(m)] += " " }},
		"no layer":       {oci.ErrArchive, func(m members) { delete(m, "1/layer.tar") }},
		"too few layers": {oci.ErrManifest, func(m members) { m["manifest.json"] = strings.Replace(m["manifest.json"], `,"2/layer.tar"`, "", 1) }},
		"layer outside": {oci.ErrArchive, func(m members) {
			m["manifest.json"] = strings.Replace(m["manifest.json"], `1/layer.tar`, "../../etc/passwd", 1)
		}},
		"layer absolute": {oci.ErrArchive, func(m members) {
			m["manifest.json"] = strings.Replace(m["manifest.json"], `1/layer.tar`, "/etc/passwd", 1)
		}},
		"layer links outside":     {oci.ErrArchive, func(m members) { m["1/layer.tar"] = "->../../../etc/passwd" }},
		"layer links to absolute": {oci.ErrArchive, func(m members) { m["1/layer.tar"] = "->/etc/passwd" }},
		"layer hard links out":    {oci.ErrArchive, func(m members) { m["1/layer.tar"] = "=>../etc/passwd" }},
		"layer links to itself":   {oci.ErrArchive, func(m members) { m["1/layer.tar"] = "->layer.tar" }},
		"other platform": {oci.ErrPlatform, func(m members) {
			delete(m, cfg(m))
			m["c"] = config(t, "s390x", "one", "two")
			m["manifest.json"] = text(t, []dockerImage{{Config: "c", Layers: []string{"1/layer.tar", "2/layer.tar"}}})
		}},
		"bad diff_id": {oci.ErrManifest, func(m members) {
			m["c"] = strings.Replace(config(t, "amd64", "one", "two"), "sha256:", "sha256:../", 1)
			m["manifest.json"] = text(t, []dockerImage{{Config: "c", Layers: []string{"1/layer.tar", "2/layer.tar"}}})
		}},
		"name not UTF-8": {oci.ErrArchive, func(m members) { m["\xff"] = "" }},
	} {
		m := docker(t)
		c.change(m)
		_, err := read(t, m.pack(t), DefaultLimits())
		assert.ErrorIs(t, err, c.want, name)
	}
}

func TestLayout(t *testing.T) {
	t.Parallel()
	m := members{}
	arm, amd := on(m.image(t, "arm64", "arm"), "arm64"), on(m.image(t, "amd64", "amd", "two"), "amd64")
	attested := spec.Descriptor{MediaType: spec.MediaTypeImageManifest, Digest: digest.FromString("absent"), Size: 5,
		Platform: &spec.Platform{OS: "unknown", Architecture: "unknown"}}
	second := m.image(t, "amd64", "second")
	index := m.index(t, arm, attested, amd, on(second, "amd64"))
	odd := m.add("application/vnd.example.signature", "sig")
	m.top(t, odd, named(m.index(t, index), spec.AnnotationRefName, "multi:v1"), named(second, nameAnnotation, "second"))
	images, err := read(t, m.pack(t), DefaultLimits())
	require.NoError(t, err)
	require.Len(t, images, 2)
	assert.Equal(t, []string{"multi:v1"}, images[0].Names)
	assert.Equal(t, amd.Digest, images[0].ManifestDigest, "the platform's manifest counts, not the index")
	assert.Equal(t, []string{"amd", "two"}, layers(t, images[0]))
	assert.Equal(t, []string{"second"}, images[1].Names)
}

func TestLayoutJoinsNames(t *testing.T) {
	t.Parallel()
	m := members{}
	a, b := m.image(t, "amd64", "a"), m.image(t, "amd64", "b")
	m.top(t, named(a, spec.AnnotationRefName, "x:1"), named(a, spec.AnnotationRefName, "x:2"), named(b, spec.AnnotationRefName, "x:1"))
	images, err := read(t, m.pack(t), DefaultLimits())
	require.NoError(t, err)
	require.Len(t, images, 1)
	assert.Equal(t, []string{"x:1", "x:2"}, images[0].Names)
}

func TestLayoutPlatformFromConfig(t *testing.T) {
	t.Parallel()
	m := members{}
	m.top(t, m.index(t, m.image(t, "arm64", "arm"), m.image(t, "amd64", "amd")))
	images, err := read(t, m.pack(t), DefaultLimits())
	require.NoError(t, err)
	require.Len(t, images, 1)
	assert.Equal(t, []string{"amd"}, layers(t, images[0]))

	m = members{}
	m.top(t, m.image(t, "arm64", "arm"), on(m.image(t, "s390x", "z"), "s390x"))
	_, err = read(t, m.pack(t), DefaultLimits())
	assert.ErrorIs(t, err, oci.ErrPlatform)
	assert.ErrorContains(t, err, "linux/s390x")
}

func TestLayoutRefusals(t *testing.T) {
	t.Parallel()
	manifest := func(m members, change func(doc map[string]any)) members {
		layer := m.add(spec.MediaTypeImageLayer, "one")
		doc := map[string]any{"schemaVersion": 2, "config": m.add(spec.MediaTypeImageConfig, config(t, "amd64", "one")), "layers": []any{layer}}
		change(doc)
		return m.top(t, m.add(spec.MediaTypeImageManifest, text(t, doc)))
	}
	nested := func(depth int) members {
		m := members{}
		d := m.image(t, "amd64", "one")
		for range depth {
			d = m.index(t, d)
		}
		return m.top(t, d)
	}
	for name, c := range map[string]struct {
		want error
		m    members
	}{
		"nothing wrong":     {nil, manifest(members{}, func(map[string]any) {})},
		"32 indexes deep":   {nil, nested(32)},
		"33 indexes deep":   {oci.ErrLimit, nested(33)},
		"100 indexes deep":  {oci.ErrLimit, nested(100)},
		"manifest as index": {oci.ErrManifest, manifest(members{}, func(d map[string]any) { d["mediaType"] = spec.MediaTypeImageIndex })},
		"both kinds":        {oci.ErrManifest, manifest(members{}, func(d map[string]any) { d["manifests"] = d["layers"] })},
		"schema 1":          {oci.ErrManifest, manifest(members{}, func(d map[string]any) { d["schemaVersion"] = 1 })},
		"no config":         {oci.ErrManifest, manifest(members{}, func(d map[string]any) { delete(d, "config") })},
		"no image":          {oci.ErrMediaType, manifest(members{}, func(d map[string]any) { d["config"] = spec.DescriptorEmptyJSON })},
		"encrypted layer": {oci.ErrMediaType, manifest(members{}, func(d map[string]any) {
			d["layers"] = []any{spec.Descriptor{MediaType: "x+encrypted", Digest: digest.FromString("one"), Size: 3}}
		})},
		"layer size": {oci.ErrSizeMismatch, manifest(members{}, func(d map[string]any) {
			d["layers"] = []any{spec.Descriptor{MediaType: spec.MediaTypeImageLayer, Digest: digest.FromString("one"), Size: 4}}
		})},
		"layer missing": {oci.ErrArchive, manifest(members{}, func(d map[string]any) {
			d["layers"] = []any{spec.Descriptor{MediaType: spec.MediaTypeImageLayer, Digest: digest.FromString("no"), Size: 2}}
		})},
		"layer digest is path": {oci.ErrManifest, manifest(members{}, func(d map[string]any) {
			d["layers"] = []any{spec.Descriptor{MediaType: spec.MediaTypeImageLayer, Digest: "sha256:../../../etc/passwd", Size: 2}}
		})},
		"more layers than ids":  {oci.ErrManifest, manifest(members{}, func(d map[string]any) { d["layers"] = append(d["layers"].([]any), d["layers"].([]any)...) })},
		"501 layers":            {oci.ErrLimit, manifest(members{}, func(d map[string]any) { d["layers"] = make([]spec.Descriptor, 501) })},
		"no index.json":         {oci.ErrArchive, members{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`}},
		"layout version 2":      {oci.ErrArchive, members{"oci-layout": `{"imageLayoutVersion":"2.0.0"}`, "index.json": "{}"}},
		"index with config":     {oci.ErrManifest, members{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": `{"schemaVersion":2,"config":{}}`}},
		"index without version": {oci.ErrManifest, members{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": `{}`}},
		"empty index":           {oci.ErrPlatform, members{}.top(t)},
	} {
		_, err := read(t, c.m.pack(t), DefaultLimits())
		if c.want == nil {
			assert.NoError(t, err, name)
		} else {
			assert.ErrorIs(t, err, c.want, name)
		}
	}
}

func TestMetadataIsVerified(t *testing.T) {
	t.Parallel()
	m := members{}
	d := m.image(t, "amd64", "one")
	m.top(t, d)
	for name := range m {
		if body := m[name]; strings.HasPrefix(name, "blobs/") && strings.HasPrefix(body, "{") {
			m[name] = strings.Replace(body, "{", "{ ", 1)
			_, err := read(t, m.pack(t), DefaultLimits())
			assert.ErrorIs(t, err, oci.ErrSizeMismatch)
			m[name] = strings.Replace(body, "linux", "Linux", 1)
			if m[name] == body {
				m[name] = strings.Replace(body, "schema", "Schema", 1)
			}
			_, err = read(t, m.pack(t), DefaultLimits())
			assert.ErrorIs(t, err, oci.ErrDigestMismatch)
			m[name] = body
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	raw := docker(t).pack(t)
	for name, set := range map[string]func(l *Limits){
		"entries":        func(l *Limits) { l.Entries = 3 },
		"names":          func(l *Limits) { l.NameBytes = 50 },
		"metadata":       func(l *Limits) { l.MetadataBytes = 100 },
		"total metadata": func(l *Limits) { l.TotalMetadata = 500 },
		"blob":           func(l *Limits) { l.BlobBytes = 2 },
		"layers":         func(l *Limits) { l.Documents.Layers = 1 },
		"images":         func(l *Limits) { l.Images = 0 },
	} {
		limits := DefaultLimits()
		set(&limits)
		_, err := read(t, raw, limits)
		assert.ErrorIs(t, err, oci.ErrLimit, name)
	}
}

func TestTruncated(t *testing.T) {
	t.Parallel()
	raw := docker(t).pack(t)
	for n := 0; n < len(raw)-1024-512; n += 100 {
		_, err := read(t, raw[:n], DefaultLimits())
		assert.Error(t, err, "cut at %d", n)
		assert.True(t, isClass(err), "cut at %d: %v", n, err)
	}
}

func TestStage(t *testing.T) {
	t.Parallel()
	raw := docker(t).pack(t)
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err := w.Write(raw)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	dir := t.TempDir()
	onDisk := func(name string, data []byte) *os.File {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		f, err := os.Open(filepath.Join(dir, name))
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	plain := onDisk("plain", raw)
	spools := t.TempDir()
	for name, r := range map[string]io.Reader{
		"file": plain, "stream": bytes.NewReader(raw), "gzip stream": bytes.NewReader(zipped.Bytes()), "gzip file": onDisk("zipped", zipped.Bytes()),
	} {
		f, err := Stage(t.Context(), spools, r, DefaultLimits().Outer)
		require.NoError(t, err, name)
		assert.EqualValues(t, len(raw), f.Size, name)
		_, err = Read(t.Context(), f, amd64, DefaultLimits())
		assert.NoError(t, err, name)
		assert.NoError(t, f.Close())
	}
	left, err := os.ReadDir(spools)
	require.NoError(t, err)
	assert.Empty(t, left)
	_, err = plain.Stat()
	assert.NoError(t, err, "a file used in place stays open")

	_, err = Stage(t.Context(), spools, bytes.NewReader(raw), blob.Limits{Bytes: 100, Ratio: 1})
	assert.ErrorIs(t, err, oci.ErrLimit)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Stage(ctx, spools, bytes.NewReader(raw), DefaultLimits().Outer)
	assert.ErrorIs(t, err, context.Canceled)
}

func isClass(err error) bool {
	for _, class := range []error{oci.ErrArchive, oci.ErrManifest, oci.ErrMediaType, oci.ErrPlatform, oci.ErrLimit, oci.ErrDigestMismatch, oci.ErrSizeMismatch} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// TestSyntheticManifestEqualsObserved pins the manifest to what microsandbox 0.6.18 made
// of the same docker archive: its digest names files in a cache that both use.
func TestSyntheticManifestEqualsObserved(t *testing.T) {
	t.Parallel()
	const observed = `{"config":{"digest":"sha256:fc9571bb457b3a969dade83141e28cc0f9f57c9ead5ce37f29a3ffc33343cbe1","mediaType":"application/vnd.oci.image.config.v1+json","size":338},` +
		`"layers":[{"digest":"sha256:fc64844b74cf2e678b8043303e0e31586a9d66a5c0ec279f5569bbc0639263c8","mediaType":"application/vnd.oci.image.layer.v1.tar","size":2129920}],` +
		`"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}`
	i := Image{}
	i.Config, i.ConfigDigest = make([]byte, 338), "sha256:fc9571bb457b3a969dade83141e28cc0f9f57c9ead5ce37f29a3ffc33343cbe1"
	i.Layers = []oci.Layer{{BlobDigest: "sha256:fc64844b74cf2e678b8043303e0e31586a9d66a5c0ec279f5569bbc0639263c8", Size: 2129920, MediaType: "application/vnd.oci.image.layer.v1.tar"}}
	require.NoError(t, i.synthesize())
	assert.Equal(t, observed, string(i.Manifest))
	assert.EqualValues(t, "sha256:dba722077e20911f1ffe45b80846aaed7f3f0ad0645d31fa589a0f27a4ec77c1", i.ManifestDigest)
}
