package manifest

import (
	"context"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/oci"
)

func TestKind(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"mediaType":"x","manifests":[]}`: "x",
		`{"manifests":[]}`:                 spec.MediaTypeImageIndex,
		`{"layers":[]}`:                    spec.MediaTypeImageManifest,
		`{}`:                               spec.MediaTypeImageManifest,
	} {
		d, err := Parse([]byte(text))
		require.NoError(t, err)
		assert.Equal(t, want, d.Kind(), text)
	}
	_, err := Parse([]byte("["))
	assert.ErrorIs(t, err, oci.ErrManifest)
}

func TestParseConfig(t *testing.T) {
	t.Parallel()
	d := digest.FromString("x").String()
	c, err := ParseConfig([]byte(`{"os":"linux","architecture":"arm","variant":"v7","created":"2020-02-03T04:05:06Z","rootfs":{"type":"layers","diff_ids":["` + d + `"]},
		"config":{"Env":["A=b"],"ExposedPorts":{"80/tcp":{},"443/tcp":{}},"Volumes":{"/v":{}},"User":"u"},"unknown":{"x":1}}`))
	require.NoError(t, err)
	assert.Equal(t, Config{Platform: Platform{"linux", "arm", "v7"}, Created: time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC), DiffIDs: []digest.Digest{digest.Digest(d)},
		Run: oci.Config{Env: []string{"A=b"}, ExposedPorts: []string{"443/tcp", "80/tcp"}, Volumes: []string{"/v"}, User: "u"}}, c)
	assert.Equal(t, "linux/arm/v7", c.Platform.String())
	c, err = ParseConfig([]byte(`{"created":"yesterday","config":null}`))
	require.NoError(t, err)
	assert.True(t, c.Created.IsZero())
	for _, bad := range []string{``, `[]`, `{"rootfs":{"type":"base"}}`, `{"rootfs":{"diff_ids":["sha256:../x"]}}`, `{"rootfs":{"diff_ids":["md5:d41d8cd98f00b204e9800998ecf8427e"]}}`, `{"config":{"Env":"x"}}`} {
		_, err := ParseConfig([]byte(bad))
		assert.ErrorIs(t, err, oci.ErrManifest, bad)
	}
	_, err = CheckConfig([]byte(`{"os":"windows"}`), 0, Platform{OS: "linux", Architecture: "amd64"})
	assert.ErrorIs(t, err, oci.ErrPlatform)
	_, err = CheckConfig([]byte(`{}`), 1, Platform{OS: "linux", Architecture: "amd64"})
	assert.ErrorIs(t, err, oci.ErrManifest)
	_, err = CheckConfig([]byte(`{}`), 0, Platform{OS: "linux", Architecture: "amd64"})
	assert.NoError(t, err, "what it leaves open fits")
}

// FuzzResolve resolves documents that a hostile registry might deliver: the same one for
// whatever is asked.
func FuzzResolve(f *testing.F) {
	f.Add(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"`+digest.FromString("x").String()+`","size":1}]}`, `{}`)
	f.Add(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"`+digest.FromString("x").String()+`"},"layers":[]}`, `{"os":"linux"}`)
	f.Fuzz(func(t *testing.T, document, config string) {
		fetched := 0
		r := &Resolver{Platform: Platform{OS: "linux", Architecture: "amd64"}, Limits: Limits{Layers: 10, IndexDepth: 4, Indexes: 20},
			Fetch: func(_ context.Context, d spec.Descriptor) ([]byte, error) {
				fetched++
				if IsIndex(d.MediaType) || IsManifest(d.MediaType) {
					return []byte(document), nil
				}
				return []byte(config), nil
			}}
		for _, kind := range []string{spec.MediaTypeImageIndex, spec.MediaTypeImageManifest} {
			i, trail, err := r.Resolve(t.Context(), spec.Descriptor{MediaType: kind, Digest: digest.FromString("x")})
			if err != nil {
				continue
			}
			assert.NotEmpty(t, trail)
			assert.Len(t, i.Layers, len(i.Parsed.DiffIDs))
			for _, l := range i.Layers {
				assert.NoError(t, l.BlobDigest.Validate())
				assert.GreaterOrEqual(t, l.Size, int64(0))
			}
		}
	})
}
