package archive

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/oci/manifest"
)

// members is an archive by member names; a value that begins with "->" is a symbolic
// link, with "=>" a hard link.
type members map[string]string

func (m members) pack(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(m)) {
		h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(m[name]))}
		switch body := m[name]; {
		case len(body) > 2 && body[:2] == "->":
			h = &tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: body[2:]}
		case len(body) > 2 && body[:2] == "=>":
			h = &tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: body[2:]}
		}
		require.NoError(t, w.WriteHeader(h))
		if h.Size > 0 {
			_, err := io.WriteString(w, m[name])
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func text(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	require.NoError(t, err)
	return string(data)
}

func config(t testing.TB, arch string, layers ...string) string {
	t.Helper()
	ids := []digest.Digest{}
	for _, l := range layers {
		ids = append(ids, digest.FromString(l))
	}
	return text(t, map[string]any{
		"os": "linux", "architecture": arch, "created": "2020-02-03T04:05:06.7Z",
		"config": map[string]any{"Env": []string{"A=b"}, "Entrypoint": []string{"/e"}, "Cmd": nil, "ExposedPorts": map[string]any{"80/tcp": map[string]any{}},
			"Volumes": map[string]any{"/v": map[string]any{}}, "Labels": map[string]string{"l": "m"}, "User": "u", "WorkingDir": "/w", "StopSignal": "SIGINT"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
}

// docker returns a docker-save archive of one image with two plain layers.
func docker(t testing.TB) members {
	t.Helper()
	c := config(t, "amd64", "one", "two")
	name := digest.FromString(c).Encoded() + ".json"
	return members{
		name: c, "1/layer.tar": "one", "2/layer.tar": "two",
		"manifest.json": text(t, []dockerImage{{Config: name, RepoTags: []string{noName, "app:v1", "app:v2"}, Layers: []string{"1/layer.tar", "2/layer.tar"}}}),
	}
}

// add stores a blob and returns its descriptor.
func (m members) add(mediaType, body string) spec.Descriptor {
	d := digest.FromString(body)
	m["blobs/sha256/"+d.Encoded()] = body
	return spec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}
}

func (m members) image(t testing.TB, arch string, layers ...string) spec.Descriptor {
	t.Helper()
	doc := spec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: spec.MediaTypeImageManifest,
		Config: m.add(spec.MediaTypeImageConfig, config(t, arch, layers...))}
	for _, l := range layers {
		doc.Layers = append(doc.Layers, m.add(spec.MediaTypeImageLayer, l))
	}
	return m.add(spec.MediaTypeImageManifest, text(t, doc))
}

func (m members) index(t testing.TB, all ...spec.Descriptor) spec.Descriptor {
	t.Helper()
	return m.add(spec.MediaTypeImageIndex, text(t, spec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: all}))
}

// top makes the archive a layout whose index.json lists all.
func (m members) top(t testing.TB, all ...spec.Descriptor) members {
	t.Helper()
	m["oci-layout"] = `{"imageLayoutVersion":"1.0.0"}`
	m["index.json"] = text(t, spec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: all})
	return m
}

func on(d spec.Descriptor, arch string) spec.Descriptor {
	d.Platform = &spec.Platform{OS: "linux", Architecture: arch}
	return d
}

func named(d spec.Descriptor, key, name string) spec.Descriptor {
	d.Annotations = map[string]string{key: name}
	return d
}

var amd64 = manifest.Platform{OS: "linux", Architecture: "amd64"}

func read(t testing.TB, raw []byte, limits Limits) ([]Image, error) {
	t.Helper()
	return Read(t.Context(), &File{ReaderAt: bytes.NewReader(raw), Size: int64(len(raw))}, amd64, limits)
}
