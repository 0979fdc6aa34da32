package registry

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/ref"
	"github.com/gomsb/gomsb/oci/registry/registrytest"
)

func readBlob(t *testing.T, c *Client, r ref.Reference, l oci.Layer, offset int64) string {
	t.Helper()
	b := c.Blob(t.Context(), r, l, offset)
	data, err := io.ReadAll(b)
	require.NoError(t, err)
	require.NoError(t, b.Close())
	return string(data)
}

// noise is content that no two places of have in common.
func noise(n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(p)
	return p
}

func TestBlobSurvivesFaults(t *testing.T) {
	t.Parallel()
	data := noise(700 << 10)
	for name, faults := range map[string][]registrytest.Fault{
		"none":              nil,
		"cut":               {{Times: 1, Serve: registrytest.Cut(100_000)}},
		"cut at once":       {{Times: 3, Serve: registrytest.Cut(0)}},
		"cut often":         {{Times: 9, Serve: registrytest.Cut(70_000)}},
		"stall":             {{Times: 1, Serve: registrytest.Stall(300_000)}},
		"503":               {{Times: 1, Serve: registrytest.Cut(10)}, {Times: 2, Serve: registrytest.Status(http.StatusServiceUnavailable)}},
		"ranges ignored":    {{Times: 1, Serve: registrytest.Cut(200_000)}, {Times: -1, Serve: registrytest.NoRange}},
		"ranges refused":    {{Times: 1, Serve: registrytest.Cut(200_000)}, {Times: 1, Serve: registrytest.Status(http.StatusRequestedRangeNotSatisfiable)}},
		"no length":         {{Times: -1, Serve: registrytest.Header("Content-Length", "", "Content-Type", "text/html")}},
		"slow":              {{Times: -1, Serve: registrytest.Slow(100_000, 10*time.Millisecond)}},
		"length of a range": {{Times: 1, Serve: registrytest.Cut(200_000)}, {Times: 1, Serve: registrytest.Header("Content-Range", "bytes 200000-716799/*")}},
	} {
		s := registrytest.New(t)
		l := oci.Layer{BlobDigest: s.PutBlob(t, "app", data), Size: int64(len(data))}
		for i := range faults {
			faults[i].Path = "/blobs/"
		}
		s.Break(faults...)
		got := readBlob(t, newClient(t, Config{Retry: retryFor(name)}), parse(t, s, "app"), l, 0)
		assert.True(t, got == string(data), name)
	}
}

func TestBlobFromOffset(t *testing.T) {
	t.Parallel()
	data := noise(10_000)
	s := registrytest.New(t)
	l := oci.Layer{BlobDigest: s.PutBlob(t, "app", data), Size: int64(len(data))}
	c := newClient(t, Config{})
	for _, offset := range []int64{1, 5000, 9999, 10_000} {
		assert.True(t, readBlob(t, c, parse(t, s, "app"), l, offset) == string(data[offset:]), offset)
	}
	assert.Equal(t, "bytes=5000-9999", s.Requests("/blobs/")[1].Range)
	assert.Len(t, s.Requests("/blobs/"), 3, "for nothing nobody is asked")
}

func TestBlobRefuses(t *testing.T) {
	t.Parallel()
	data := noise(100_000)
	range0 := registrytest.Fault{Path: "/blobs/", Times: 1, Serve: registrytest.Cut(50_000)}
	for name, c := range map[string]struct {
		want   error
		size   int64
		faults []registrytest.Fault
	}{
		"longer than stated":  {oci.ErrSizeMismatch, 99_999, nil},
		"shorter than stated": {oci.ErrSizeMismatch, 100_001, nil},
		"shorter when cut":    {oci.ErrRegistry, 100_000, []registrytest.Fault{{Path: "/blobs/", Times: -1, Serve: registrytest.Cut(1000)}}},
		"gone":                {oci.ErrNotFound, 100_000, []registrytest.Fault{{Path: "/blobs/", Times: -1, Serve: registrytest.Status(http.StatusNotFound)}}},
		"denied later":        {oci.ErrUnauthorized, 100_000, []registrytest.Fault{range0, {Path: "/blobs/", Times: -1, Serve: registrytest.Status(http.StatusForbidden)}}},
		"another range":       {oci.ErrRegistry, 100_000, []registrytest.Fault{range0, {Path: "/blobs/", Times: -1, Serve: registrytest.Header("Content-Range", "bytes 60000-99999/100000")}}},
		"another whole":       {oci.ErrSizeMismatch, 100_000, []registrytest.Fault{range0, {Path: "/blobs/", Times: -1, Serve: registrytest.Header("Content-Range", "bytes 50000-99999/200000")}}},
		"no range":            {oci.ErrRegistry, 100_000, []registrytest.Fault{range0, {Path: "/blobs/", Times: -1, Serve: registrytest.Header("Content-Range", "nibbles 1-2/3")}}},
		"drip":                {oci.ErrRegistry, 100_000, []registrytest.Fault{{Path: "/blobs/", Times: -1, Serve: registrytest.Cut(1)}}},
		"never":               {oci.ErrRegistry, 100_000, []registrytest.Fault{{Path: "/blobs/", Times: -1, Serve: registrytest.Stall(0)}}},
	} {
		s := registrytest.New(t)
		l := oci.Layer{BlobDigest: s.PutBlob(t, "app", data), Size: c.size}
		s.Break(c.faults...)
		client := newClient(t, Config{Retry: retryFor(name)})
		b := client.Blob(t.Context(), parse(t, s, "app"), l, 0)
		got, err := io.ReadAll(b)
		assert.ErrorIs(t, err, c.want, name)
		assert.True(t, bytes.HasPrefix(data, got), "%s: what was delivered is right", name)
		_, again := b.Read(make([]byte, 1))
		assert.Equal(t, err, again, "%s: an error stays", name)
		require.NoError(t, b.Close())
		assert.LessOrEqual(t, len(s.Requests("/blobs/")), 5, name)
	}
	_, err := io.ReadAll(newClient(t, Config{}).Blob(t.Context(), parse(t, registrytest.New(t), "app"), oci.Layer{BlobDigest: digest.FromString("x"), Size: 1}, 0))
	assert.ErrorIs(t, err, oci.ErrNotFound)
}

func TestBlobStopsWithContext(t *testing.T) {
	t.Parallel()
	data := noise(100_000)
	s := registrytest.New(t)
	l := oci.Layer{BlobDigest: s.PutBlob(t, "app", data), Size: int64(len(data))}
	s.Break(registrytest.Fault{Path: "/blobs/", Times: -1, Serve: registrytest.Stall(1000)})
	ctx, cancel := context.WithCancel(t.Context())
	c := newClient(t, Config{Retry: Retry{Attempts: 5, First: time.Millisecond, Most: time.Second, Stall: time.Hour}})
	b := c.Blob(ctx, parse(t, s, "app"), l, 0)
	defer b.Close()
	_, err := io.ReadFull(b, make([]byte, 1000))
	require.NoError(t, err)
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err = io.ReadAll(b)
	assert.ErrorIs(t, err, context.Canceled)
	b = c.Blob(t.Context(), parse(t, s, "app"), l, 0)
	require.NoError(t, b.Close())
	_, err = b.Read(make([]byte, 1))
	assert.Error(t, err)
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-9/10")
	f.Add("bytes 5-9/*")
	f.Fuzz(func(t *testing.T, s string) {
		first, whole, err := contentRange(s)
		if err == nil {
			assert.GreaterOrEqual(t, first, int64(0))
			assert.GreaterOrEqual(t, whole, int64(-1))
		}
	})
}
