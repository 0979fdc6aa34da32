package cache

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/registry"
	"github.com/gomsb/gomsb/oci/registry/registrytest"
)

// once makes requests once, quick repeats them quickly. Neither takes a busy machine for a
// connection that stalled: requests are counted.
var (
	once  = registry.Retry{Attempts: 1, Stall: time.Minute}
	quick = registry.Retry{Attempts: 5, First: time.Millisecond, Most: 10 * time.Millisecond, Stall: time.Minute}
)

func client(t testing.TB, retry registry.Retry) *registry.Client {
	t.Helper()
	c, err := registry.New(registry.Config{Retry: retry})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// noise does not compress, so that what is cut off is missing.
func noise(n int, seed byte) string {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{seed})
	_, _ = r.Read(p)
	return string(p)
}

// served is an image of the layers base, top and a large one.
func served(t testing.TB, compression string) (*registrytest.Server, string, registrytest.Pushed) {
	t.Helper()
	s := registrytest.New(t)
	p := s.Push(t, "app", "latest", registrytest.Image{Layers: [][]byte{base(t), top(t), pack(t, file("bulk", noise(900<<10, 1)))}, Compression: compression,
		Config: spec.ImageConfig{Cmd: []string{"/bin/sh"}}})
	return s, s.Host() + "/app", p
}

func blobRequests(s *registrytest.Server, p registrytest.Pushed) int {
	n := 0
	for _, d := range p.Layers {
		n += len(s.Requests("/blobs/" + d.String()))
	}
	return n
}

func TestPull(t *testing.T) {
	t.Parallel()
	for _, compression := range []string{"", "gzip", "zstd"} {
		s, name, p := served(t, compression)
		c := open(t)
		var events []oci.Event
		i, err := c.Pull(t.Context(), name, client(t, quick), PullOptions{Progress: func(e oci.Event) { events = append(events, e) }})
		require.NoError(t, err)
		checkRoot(t, i)
		assert.Equal(t, name+":latest", i.Reference)
		assert.Equal(t, p.Descriptor.Digest, i.ManifestDigest)
		assert.Equal(t, digest.FromBytes(i.RawManifest), i.ManifestDigest)
		assert.Equal(t, []string{"/bin/sh"}, i.Config.Cmd)
		assert.Len(t, files(t, c), 6, "three layers, fsmeta, descriptor, document; nothing temporary")

		about, layers := []oci.EventKind{}, map[int][]oci.EventKind{}
		for _, e := range events {
			if e.DiffID != "" || e.BlobDigest != "" {
				layers[e.Layer] = append(layers[e.Layer], e.Kind)
			} else if e.Kind != oci.EventMaterializeProgress {
				about = append(about, e.Kind)
			}
		}
		assert.Equal(t, []oci.EventKind{oci.EventResolving, oci.EventResolved, oci.EventMerging, oci.EventWriting, oci.EventComplete}, about)
		for n := range 2 {
			assert.Equal(t, []oci.EventKind{oci.EventMaterializeStarted, oci.EventDownloadProgress, oci.EventDownloadComplete, oci.EventMaterializeComplete}, layers[n])
		}
		assert.Greater(t, len(layers[2]), 5)

		s.Forget()
		events = nil
		again, err := c.Pull(t.Context(), name, client(t, quick), PullOptions{Progress: func(e oci.Event) { events = append(events, e) }})
		require.NoError(t, err)
		assert.Equal(t, i.ManifestDigest, again.ManifestDigest)
		assert.Empty(t, s.Requests(""), "what is complete needs no registry")
		require.Len(t, events, 3)
		assert.Equal(t, []oci.EventKind{oci.EventResolving, oci.EventResolved, oci.EventComplete}, []oci.EventKind{events[0].Kind, events[1].Kind, events[2].Kind})
	}
}

func TestPullPolicies(t *testing.T) {
	t.Parallel()
	s, name, p := served(t, "gzip")
	c, remote := open(t), client(t, quick)
	_, err := c.Pull(t.Context(), name, remote, PullOptions{Policy: Never})
	assert.ErrorIs(t, err, oci.ErrNotCached)
	assert.ErrorContains(t, err, name+":latest")
	assert.Empty(t, s.Requests(""))
	i, err := c.Pull(t.Context(), name, remote, PullOptions{Policy: Always})
	require.NoError(t, err)
	_, err = c.Pull(t.Context(), name, remote, PullOptions{Policy: Never})
	require.NoError(t, err)

	s.Forget()
	_, err = c.Pull(t.Context(), name, remote, PullOptions{Policy: Always})
	require.NoError(t, err)
	assert.NotEmpty(t, s.Requests("/manifests/"))
	assert.Zero(t, blobRequests(s, p), "layers that are there are not fetched again")
	newer := s.Push(t, "app", "latest", registrytest.Image{Layers: [][]byte{base(t), other(t)}})
	same, err := c.Pull(t.Context(), name, remote, PullOptions{})
	require.NoError(t, err)
	assert.Equal(t, i.ManifestDigest, same.ManifestDigest)
	other, err := c.Pull(t.Context(), name, remote, PullOptions{Policy: Always})
	require.NoError(t, err)
	assert.Equal(t, newer.Descriptor.Digest, other.ManifestDigest)

	s.Forget()
	forced, err := c.Pull(t.Context(), name, remote, PullOptions{Force: true})
	require.NoError(t, err)
	assert.Equal(t, 2, blobRequests(s, newer))
	mounted(t, forced)
	s.Close()
	_, err = c.Pull(t.Context(), name, remote, PullOptions{})
	assert.NoError(t, err)
	_, err = c.Pull(t.Context(), name, remote, PullOptions{Policy: Always})
	assert.ErrorIs(t, err, oci.ErrRegistry)
}

func TestPullByDigestUsesWhatATagHas(t *testing.T) {
	t.Parallel()
	s, name, p := served(t, "gzip")
	c, remote := open(t), client(t, quick)
	_, err := c.Pull(t.Context(), name, remote, PullOptions{})
	require.NoError(t, err)
	s.Forget()
	pinned := name + "@" + p.Descriptor.Digest.String()
	i, err := c.Pull(t.Context(), pinned, remote, PullOptions{Policy: Never})
	require.NoError(t, err)
	assert.Equal(t, pinned, i.Reference)
	checkRoot(t, i)
	assert.Empty(t, s.Requests(""))
	_, last, err := c.Remove(t.Context(), name)
	require.NoError(t, err)
	assert.False(t, last, "the pinned reference keeps the image")
	_, err = c.Pull(t.Context(), name+"@"+digest.FromString("else").String(), remote, PullOptions{Policy: Never})
	assert.ErrorIs(t, err, oci.ErrNotCached)
}

func TestPullFetchesWhatIsMissingOnly(t *testing.T) {
	t.Parallel()
	s, name, p := served(t, "gzip")
	c, remote := open(t), client(t, quick)
	i, err := c.Pull(t.Context(), name, remote, PullOptions{})
	require.NoError(t, err)
	for _, path := range []string{fsmeta(t, i), i.VMDK} {
		s.Forget()
		require.NoError(t, os.Remove(path))
		i, err = c.Pull(t.Context(), name, remote, PullOptions{})
		require.NoError(t, err)
		checkRoot(t, i)
		assert.Empty(t, s.Requests(""), "it follows from the layers")
	}
	require.NoError(t, os.Truncate(i.Layers[1].Image, 8192))
	i, err = c.Pull(t.Context(), name, remote, PullOptions{})
	require.NoError(t, err)
	checkRoot(t, i)
	assert.Equal(t, 1, blobRequests(s, p))
	s.Push(t, "second", "v1", registrytest.Image{Layers: [][]byte{base(t), other(t)}, Compression: "zstd"})
	s.Forget()
	_, err = c.Pull(t.Context(), s.Host()+"/second:v1", remote, PullOptions{})
	require.NoError(t, err)
	assert.Len(t, s.Requests("/second/blobs/"), 2, "configuration and one layer: the other is shared whatever its compression")
}

func TestPullResumes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(t *testing.T, part string)
		want   []string // ranges of the second transfer of the large layer
	}{
		"as it was left": {func(*testing.T, string) {}, []string{"bytes=400000-"}},
		"damaged": {func(t *testing.T, part string) {
			f, err := os.OpenFile(part, os.O_RDWR, 0)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte("damage"), 1000)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}, []string{"bytes=400000-", ""}},
		"emptied":  {func(t *testing.T, part string) { require.NoError(t, os.Truncate(part, 0)) }, []string{""}},
		"removed":  {func(t *testing.T, part string) { require.NoError(t, os.Remove(part)) }, []string{""}},
		"too long": {func(t *testing.T, part string) { require.NoError(t, os.Truncate(part, 10<<20)) }, []string{""}},
		"complete": {nil, nil},
		"complete where microsandbox 0.6.18 leaves it": {nil, nil},
	} {
		s, image, p := served(t, "gzip")
		cache, d := open(t), p.Layers[2]
		s.Break(registrytest.Fault{Path: d.String(), Times: 1, Serve: registrytest.Cut(400_000)})
		_, err := cache.Pull(t.Context(), image, client(t, once), PullOptions{})
		require.ErrorIs(t, err, oci.ErrRegistry, name)
		part := filepath.Join(cache.tmp(), "sha256_"+d.Encoded()+".part")
		info, err := os.Stat(part)
		require.NoError(t, err)
		assert.EqualValues(t, 400_000, info.Size(), name)
		for _, path := range images(t, cache) {
			assert.Equal(t, partSuffix, filepath.Ext(path), "of the image nothing is there but parts")
		}
		switch name {
		case "complete":
			require.NoError(t, os.WriteFile(part, p.Blobs[2], 0o600))
		case "complete where microsandbox 0.6.18 leaves it":
			require.NoError(t, os.WriteFile(filepath.Join(cache.dir, layersDir, "sha256_"+d.Encoded()+".tar.gz"), p.Blobs[2], 0o600))
		default:
			c.change(t, part)
		}
		s.Forget()
		i, err := cache.Pull(t.Context(), image, client(t, once), PullOptions{})
		require.NoError(t, err, name)
		checkRoot(t, i)
		assert.Equal(t, noise(900<<10, 1), content(t, mounted(t, i), "bulk"), name)
		var got []string
		for _, r := range s.Requests(d.String()) {
			got = append(got, strings.TrimRight(r.Range, "0123456789"))
		}
		for n := range c.want {
			c.want[n] = strings.TrimRight(c.want[n], "0123456789")
		}
		assert.Equal(t, c.want, got, name)
		assert.NoFileExists(t, part, name)
		assert.Len(t, files(t, cache), 6, name)
	}
}

func TestPullRefusesAndLeavesNothing(t *testing.T) {
	t.Parallel()
	bomb := registrytest.Image{Compression: "zstd", Layers: [][]byte{pack(t, file("zeros", string(make([]byte, 64<<20))))}}
	for name, c := range map[string]struct {
		want  error
		image registrytest.Image
		fault func(http.ResponseWriter, *http.Request, http.Handler)
	}{
		"damaged":          {oci.ErrDigestMismatch, registrytest.Image{Layers: [][]byte{base(t)}}, registrytest.Damage(700)},
		"damaged gzip":     {oci.ErrDigestMismatch, registrytest.Image{Layers: [][]byte{base(t)}, Compression: "gzip"}, registrytest.Damage(40)},
		"cut short":        {oci.ErrSizeMismatch, registrytest.Image{Layers: [][]byte{base(t)}}, registrytest.Change(func(b []byte) []byte { return b[:len(b)-1] })},
		"longer":           {oci.ErrSizeMismatch, registrytest.Image{Layers: [][]byte{base(t)}}, registrytest.Change(func(b []byte) []byte { return append(b, 0) })},
		"no tar":           {oci.ErrLayer, registrytest.Image{Layers: [][]byte{bytes.Repeat([]byte("x"), 1024)}}, nil},
		"climbing path":    {oci.ErrLayer, registrytest.Image{Layers: [][]byte{pack(t, file("../x", ""))}}, nil},
		"bomb":             {oci.ErrLimit, bomb, nil},
		"gone":             {oci.ErrNotFound, registrytest.Image{Layers: [][]byte{base(t)}}, registrytest.Status(http.StatusNotFound)},
		"denied":           {oci.ErrUnauthorized, registrytest.Image{Layers: [][]byte{base(t)}}, registrytest.Status(http.StatusForbidden)},
		"always cut":       {oci.ErrRegistry, registrytest.Image{Layers: [][]byte{base(t)}}, registrytest.Cut(1)},
		"another platform": {oci.ErrPlatform, registrytest.Image{Layers: [][]byte{base(t)}, Architecture: "s390x"}, nil},
	} {
		s, cache := registrytest.New(t), open(t)
		cache.Limits.Blob.RatioFloor = 1 << 20
		p := s.Push(t, "app", "latest", c.image)
		if c.fault != nil {
			s.Break(registrytest.Fault{Path: "/blobs/" + p.Layers[0].String(), Times: -1, Serve: c.fault})
		}
		_, err := cache.Pull(t.Context(), s.Host()+"/app", client(t, quick), PullOptions{})
		assert.ErrorIs(t, err, c.want, name)
		for _, path := range files(t, cache) {
			assert.True(t, strings.HasSuffix(path, partSuffix) && c.want == oci.ErrRegistry || c.want == oci.ErrNotFound || c.want == oci.ErrUnauthorized, "%s leaves %s", name, path)
		}
	}
}

// TestPullChecksDiffIDs: a blob that is what its digest says may still not be the layer
// that the configuration promises.
func TestPullChecksDiffIDs(t *testing.T) {
	t.Parallel()
	s, cache := registrytest.New(t), open(t)
	p := s.Push(t, "app", "latest", registrytest.Image{Layers: [][]byte{base(t)}, Compression: "gzip"})
	wrong := s.PutBlob(t, "app", zip(t, top(t)))
	text := strings.Replace(string(fetch(t, s, "/v2/app/manifests/latest")), p.Layers[0].String(), wrong.String(), 1)
	text = strings.Replace(text, `"size":`+itoa(len(p.Blobs[0])), `"size":`+itoa(len(zip(t, top(t)))), 1)
	s.PutManifest(t, "app", "latest", spec.MediaTypeImageManifest, []byte(text))
	_, err := cache.Pull(t.Context(), s.Host()+"/app", client(t, quick), PullOptions{})
	assert.ErrorIs(t, err, oci.ErrDigestMismatch)
	assert.Empty(t, files(t, cache))
}

func TestConcurrentPullsFetchOnce(t *testing.T) {
	t.Parallel()
	s, name, p := served(t, "gzip")
	s.Push(t, "second", "latest", registrytest.Image{Layers: [][]byte{base(t), other(t)}, Compression: "gzip"})
	s.Break(registrytest.Fault{Path: "/blobs/", Times: -1, Serve: registrytest.Slow(200_000, 5*time.Millisecond)})
	c, remote := open(t), client(t, quick)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			own, err := Open(c.dir)
			assert.NoError(t, err)
			own.Platform = c.Platform
			want := name
			if n%2 == 1 {
				want = s.Host() + "/second"
			}
			_, err = own.Pull(t.Context(), want, remote, PullOptions{})
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	assert.Equal(t, len(p.Layers), blobRequests(s, p), "each layer is fetched once, that of both images too")
	i, err := c.Image(t.Context(), name)
	require.NoError(t, err)
	checkRoot(t, i)
}

func TestPullStopsWithContext(t *testing.T) {
	t.Parallel()
	s, name, p := served(t, "gzip")
	s.Break(registrytest.Fault{Path: p.Layers[2].String(), Times: 1, Serve: registrytest.Stall(300_000)})
	c := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := c.Pull(ctx, name, client(t, registry.Retry{Attempts: 1, Stall: time.Hour}), PullOptions{Progress: func(e oci.Event) {
		if e.Kind == oci.EventDownloadProgress && e.Layer == 2 {
			cancel()
		}
	}})
	assert.ErrorIs(t, err, context.Canceled)
	i, err := c.Pull(t.Context(), name, client(t, quick), PullOptions{})
	require.NoError(t, err)
	checkRoot(t, i)
	assert.NotEmpty(t, s.Requests(p.Layers[2].String())[1].Range, "what had arrived was kept")
}

// TestPullSurvivesFaults lets every request of a pull fail once in some way.
func TestPullSurvivesFaults(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]func(http.ResponseWriter, *http.Request, http.Handler){
		"cut": registrytest.Cut(100), "503": registrytest.Status(http.StatusServiceUnavailable), "429": registrytest.Status(http.StatusTooManyRequests, "Retry-After", "1"),
	} {
		s, image, p := served(t, "zstd")
		for _, path := range append([]string{"/manifests/"}, p.Layers[0].String(), p.Layers[1].String(), p.Layers[2].String()) {
			s.Break(registrytest.Fault{Path: path, Times: 1, Serve: serve})
		}
		s.Break(registrytest.Fault{Path: "/blobs/", Times: -1, Serve: registrytest.Header("Content-Type", "text/html")})
		i, err := open(t).Pull(t.Context(), image, client(t, quick), PullOptions{})
		require.NoError(t, err, name)
		checkRoot(t, i)
	}
}
