package archive

import (
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzArchive reads whole archives; FuzzManifest below reaches deeper.
func FuzzArchive(f *testing.F) {
	f.Add(docker(f).pack(f))
	m := members{}
	f.Add(m.top(f, m.index(f, m.image(f, "amd64", "one"))).pack(f))
	f.Fuzz(func(t *testing.T, raw []byte) {
		images, err := read(t, raw, DefaultLimits())
		if err != nil {
			assert.True(t, isClass(err), "%v", err)
			return
		}
		check(t, images)
	})
}

// FuzzManifest puts documents into archives that are right otherwise.
func FuzzManifest(f *testing.F) {
	m := docker(f)
	f.Add(m["manifest.json"], config(f, "amd64", "one"), `{"schemaVersion":2,"manifests":[]}`)
	f.Fuzz(func(t *testing.T, list, cfg, index string) {
		docs := members{"manifest.json": list, "c": cfg, "l": "one"}
		layout := members{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": index}
		layout.add("x", list)
		for _, m := range []members{docs, layout} {
			images, err := read(t, m.pack(t), DefaultLimits())
			if err != nil {
				assert.True(t, isClass(err), "%v", err)
				continue
			}
			check(t, images)
		}
	})
}

func check(t *testing.T, images []Image) {
	for _, image := range images {
		require.NoError(t, image.ManifestDigest.Validate())
		assert.Equal(t, image.ManifestDigest, image.ManifestDigest.Algorithm().FromBytes(image.Manifest))
		assert.Equal(t, image.ConfigDigest, image.ConfigDigest.Algorithm().FromBytes(image.Config))
		assert.Len(t, image.Layers, len(image.Parsed.DiffIDs))
		for i, l := range image.Layers {
			n, err := io.Copy(io.Discard, image.Open(i))
			assert.NoError(t, err)
			assert.Equal(t, l.Size, n)
		}
	}
}
