package registrytest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
)

// Image is an image to push.
type Image struct {
	Architecture string // amd64 if empty
	Variant      string
	Layers       [][]byte // plain tar streams
	Compression  string   // "", "gzip" or "zstd"
	Config       spec.ImageConfig
}

// Pushed is what an image became.
type Pushed struct {
	Descriptor spec.Descriptor // of the manifest
	Blobs      [][]byte        // as stored, by layer
	Layers     []digest.Digest // of the blobs
}

// Push stores an image in a repository, under a tag unless that is empty.
func (s *Server) Push(t testing.TB, repository, tag string, i Image) Pushed {
	t.Helper()
	var p Pushed
	mediaType := spec.MediaTypeImageLayer
	if i.Compression != "" {
		mediaType += "+" + i.Compression
	}
	if i.Architecture == "" {
		i.Architecture = "amd64"
	}
	config := spec.Image{Platform: spec.Platform{OS: "linux", Architecture: i.Architecture, Variant: i.Variant}, Config: i.Config, RootFS: spec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}}
	doc := spec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: spec.MediaTypeImageManifest, Layers: []spec.Descriptor{}}
	for _, l := range i.Layers {
		body := Pack(t, i.Compression, l)
		d := s.PutBlob(t, repository, body)
		p.Blobs, p.Layers = append(p.Blobs, body), append(p.Layers, d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(l))
		doc.Layers = append(doc.Layers, spec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))})
	}
	text := JSON(t, config)
	doc.Config = spec.Descriptor{MediaType: spec.MediaTypeImageConfig, Digest: s.PutBlob(t, repository, text), Size: int64(len(text))}
	text = JSON(t, doc)
	p.Descriptor = spec.Descriptor{MediaType: doc.MediaType, Digest: s.PutManifest(t, repository, tag, doc.MediaType, text), Size: int64(len(text)),
		Platform: &config.Platform}
	return p
}

// PushIndex stores an index of images.
func (s *Server) PushIndex(t testing.TB, repository, tag string, manifests ...spec.Descriptor) spec.Descriptor {
	t.Helper()
	text := JSON(t, spec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: spec.MediaTypeImageIndex, Manifests: manifests})
	return spec.Descriptor{MediaType: spec.MediaTypeImageIndex, Digest: s.PutManifest(t, repository, tag, spec.MediaTypeImageIndex, text), Size: int64(len(text))}
}

// JSON is the document of v.
func JSON(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return text
}

// Pack compresses a layer.
func Pack(t testing.TB, compression string, layer []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch compression {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zstd":
		w, err = zstd.NewWriter(&b)
	default:
		return layer
	}
	require.NoError(t, err)
	_, err = w.Write(layer)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

// Layer makes a tar stream of files: name, content, name, content.
func Layer(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i+1 < len(files); i += 2 {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1])), ModTime: time.Unix(1_600_000_000, 0)}))
		_, err := io.WriteString(w, files[i+1])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}
