package cache

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/rootfs/tree"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// base and top are two layers that use everything flattening is about.
func base(t testing.TB) []byte {
	return pack(t,
		entry{tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, ""},
		file("etc/passwd", "root:x:0:0"), file("etc/old", "old"), file("cache/one", "1"), file("cache/two", "2"), file("gone/file", ""),
		entry{tar.Header{Name: "bin", Typeflag: tar.TypeSymlink, Linkname: "usr/bin"}, ""},
		entry{tar.Header{Name: "usr/bin/ping", Mode: 0o4755, Format: tar.FormatPAX, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00 \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}}, "ping"},
		entry{tar.Header{Name: "usr/bin/ping4", Typeflag: tar.TypeLink, Linkname: "usr/bin/ping"}, ""},
		entry{tar.Header{Name: "root", Typeflag: tar.TypeDir, Mode: 0o700}, ""},
	)
}

func top(t testing.TB) []byte {
	return pack(t,
		file("etc/.wh.old", ""), file("etc/new", "new"), file("cache/.wh..wh..opq", ""), file("cache/three", "3"), file(".wh.gone", ""),
		file("root/.profile", "x"), entry{tar.Header{Name: "usr/bin/ping6", Typeflag: tar.TypeLink, Linkname: "usr/bin/ping"}, ""},
	)
}

// other is a layer that can stand alone.
func other(t testing.TB) []byte { return pack(t, file("other", "layer")) }

func checkRoot(t *testing.T, i *oci.Image) {
	t.Helper()
	tr := mounted(t, i)
	assert.Equal(t, "root:x:0:0", content(t, tr, "etc/passwd"))
	assert.Equal(t, "new", content(t, tr, "etc/new"))
	assert.Equal(t, "3", content(t, tr, "cache/three"))
	assert.Equal(t, "usr/bin", content(t, tr, "bin"))
	for _, gone := range []string{"etc/old", "cache/one", "cache/two", "gone", "etc/.wh.old", "cache/.wh..wh..opq"} {
		assert.Nil(t, tr.Lookup(gone), gone)
	}
	ping := tr.Lookup("usr/bin/ping")
	assert.EqualValues(t, tree.TypeRegular|0o4755, ping.Mode)
	assert.Len(t, ping.Xattrs, 1)
	assert.Same(t, ping, tr.Lookup("usr/bin/ping4"))
	assert.Same(t, ping, tr.Lookup("usr/bin/ping6"), "a hard link across layers stays one")
	assert.EqualValues(t, tree.TypeDir|0o700, tr.Lookup("root").Mode, "an implicit parent keeps the lower attributes")
}

func TestLoadDocker(t *testing.T) {
	t.Parallel()
	c := open(t)
	s := image("app:v1", base(t), top(t))
	var events []oci.Event
	got, err := load(t, c, docker(t, s), LoadOptions{Tags: []string{"other", "library/app:v1"}, Progress: func(e oci.Event) { events = append(events, e) }})
	require.NoError(t, err)
	require.Len(t, got, 3)
	assert.Equal(t, []string{"app:v1", "other", "library/app:v1"}, []string{got[0].Name, got[1].Name, got[2].Name}, "as they were given")
	assert.Equal(t, got[0].Reference, got[2].Reference)
	i := got[0]
	assert.True(t, strings.HasSuffix(i.Reference, "/library/app:v1"))
	assert.True(t, strings.HasSuffix(got[1].Reference, "/library/other:latest"))
	assert.Equal(t, i.ManifestDigest, got[1].ManifestDigest)
	assert.Equal(t, []string{"linux", "amd64"}, []string{i.OS, i.Architecture})
	assert.Equal(t, []string{"A=b"}, i.Config.Env)
	require.Len(t, i.Layers, 2)
	assert.Equal(t, digest.FromBytes(s.layers[1]), i.Layers[1].DiffID)
	assert.EqualValues(t, len(s.layers[0])+len(s.layers[1]), i.TotalSize())
	checkRoot(t, i)

	_, extents := rootDisk(t, i)
	require.Len(t, extents, 3)
	assert.Equal(t, filepath.Join(c.dir, "fsmeta", "sha256_"+i.ManifestDigest.Encoded()+".erofs"), extents[0].Path)
	assert.Equal(t, filepath.Join(c.dir, "vmdk", "sha256_"+i.ManifestDigest.Encoded()+".vmdk"), i.VMDK)
	for n, l := range i.Layers {
		assert.Equal(t, filepath.Join(c.dir, "layers", "sha256_"+l.DiffID.Encoded()+".erofs"), extents[n+1].Path)
		assert.Equal(t, []any{extents[n+1].Path, extents[n+1].Size}, []any{l.Image, l.ImageSize})
	}
	info, err := os.Stat(extents[1].Path)
	require.NoError(t, err)
	assert.EqualValues(t, 0o600, info.Mode().Perm())

	kinds, layers := []oci.EventKind{}, map[int][]oci.EventKind{}
	for _, e := range events {
		if e.DiffID == "" && e.Kind != oci.EventMaterializeProgress {
			kinds = append(kinds, e.Kind)
		} else {
			layers[e.Layer] = append(layers[e.Layer], e.Kind)
		}
	}
	assert.Equal(t, []oci.EventKind{oci.EventResolved, oci.EventMerging, oci.EventWriting, oci.EventComplete}, kinds)
	for n := range 2 {
		assert.Equal(t, []oci.EventKind{oci.EventMaterializeStarted, oci.EventMaterializeProgress, oci.EventMaterializeComplete}, layers[n])
	}

	again, err := c.Image(t.Context(), "app:v1")
	require.NoError(t, err)
	again.Updated = i.Updated
	assert.Equal(t, i, again)
	assert.Len(t, files(t, c), 6, "two layers, fsmeta, descriptor and two documents; nothing temporary")
}

func TestMetadataDocument(t *testing.T) {
	t.Parallel()
	c := open(t)
	got, err := load(t, c, docker(t, image("app", base(t))), LoadOptions{})
	require.NoError(t, err)
	sum := sha256.Sum256([]byte(got[0].Reference))
	data, err := os.ReadFile(filepath.Join(c.dir, "manifests", hex.EncodeToString(sum[:])+".json"))
	require.NoError(t, err)
	var doc map[string]any
	require.NoError(t, json.Unmarshal(data, &doc))
	assert.Equal(t, got[0].ManifestDigest.String(), doc["manifest_digest"])
	assert.Equal(t, got[0].ConfigDigest.String(), doc["config_digest"])
	assert.Equal(t, string(got[0].RawManifest), doc["raw_manifest_json"])
	assert.Equal(t, string(got[0].RawConfig), doc["raw_config_json"])
	assert.Equal(t, map[string]any{"env": []any{"A=b"}, "cmd": []any{"/bin/sh"}, "entrypoint": nil, "working_dir": nil, "user": nil, "stop_signal": nil, "exposed_ports": []any{}, "volumes": []any{}, "labels": map[string]any{}}, doc["config"])
	layer := doc["layers"].([]any)[0].(map[string]any)
	assert.Equal(t, got[0].Layers[0].DiffID.String(), layer["diff_id"])
	assert.EqualValues(t, got[0].Layers[0].Size, layer["size_bytes"])
}

func TestLoadFormsGiveOneRoot(t *testing.T) {
	t.Parallel()
	layers := [][]byte{base(t), top(t)}
	zipped, squeezed := image("app", layers...), image("app", layers...)
	zipped.blobs = [][]byte{zip(t, layers[0]), zip(t, layers[1])}
	squeezed.blobs = [][]byte{squeeze(t, layers[0]), squeeze(t, layers[1])}
	want := ""
	for name, raw := range map[string][]byte{
		"docker": docker(t, image("app", layers...)), "docker gzip": docker(t, zipped), "docker zstd": docker(t, squeezed),
		"oci": layout(t, image("app", layers...), spec.MediaTypeImageLayer), "oci gzip": layout(t, zipped, spec.MediaTypeImageLayerGzip),
		"oci zstd": layout(t, squeezed, spec.MediaTypeImageLayerZstd), "gzipped archive": zip(t, docker(t, zipped)),
	} {
		got, err := load(t, open(t), raw, LoadOptions{})
		require.NoError(t, err, name)
		checkRoot(t, got[0])
		var data []byte
		_, extents := rootDisk(t, got[0])
		for _, e := range extents {
			one, err := os.ReadFile(e.Path)
			require.NoError(t, err)
			data = append(data, one...)
		}
		if want == "" {
			want = string(data)
		}
		assert.True(t, want == string(data), "%s: images differ", name)
	}
	sum := sha256.Sum256([]byte(want))
	assert.Equal(t, golden, hex.EncodeToString(sum[:]), "the image format changed; that must be meant")
}

const golden = "23ccccd2a7034cd8272b5880ae5bc381ab1361c5591918af13cc175c6e078610"

func TestLoadFromFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "image.tar")
	require.NoError(t, os.WriteFile(path, docker(t, image("app", base(t), top(t))), 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	got, err := open(t).Load(t.Context(), f, LoadOptions{})
	require.NoError(t, err)
	checkRoot(t, got[0])
}

func TestWarmLoadReadsNoLayer(t *testing.T) {
	t.Parallel()
	c := open(t)
	raw := docker(t, image("app", base(t), top(t)))
	_, err := load(t, c, raw, LoadOptions{})
	require.NoError(t, err)
	var kinds []oci.EventKind
	got, err := load(t, c, raw, LoadOptions{Tags: []string{"second"}, Progress: func(e oci.Event) { kinds = append(kinds, e.Kind) }})
	require.NoError(t, err)
	assert.Len(t, got, 2)
	assert.Equal(t, []oci.EventKind{oci.EventResolved, oci.EventComplete}, kinds)
	_, err = c.Image(t.Context(), "second")
	assert.NoError(t, err)
}

func TestLoadNames(t *testing.T) {
	t.Parallel()
	a, b := image("", base(t)), image("", other(t))
	a.tags, b.tags = nil, nil
	c := open(t)
	_, err := load(t, c, docker(t, a), LoadOptions{})
	assert.ErrorIs(t, err, oci.ErrUntagged)
	_, err = load(t, c, docker(t, a, b), LoadOptions{Tags: []string{"x"}})
	assert.ErrorIs(t, err, oci.ErrUntagged, "tags are for the first image")
	_, err = load(t, c, docker(t, a), LoadOptions{Tags: []string{"Not A Reference"}})
	assert.ErrorIs(t, err, oci.ErrReference)
	_, err = load(t, c, docker(t, a), LoadOptions{Tags: []string{"x@" + digest.FromString("else").String()}})
	assert.ErrorIs(t, err, oci.ErrDigestMismatch)
	a.tags, b.tags = []string{"same"}, []string{"same:latest"}
	_, err = load(t, c, docker(t, a, b), LoadOptions{})
	assert.ErrorIs(t, err, oci.ErrArchive)
	assert.Empty(t, files(t, c))
	a.tags, b.tags = []string{"a", "a:latest"}, []string{"b"}
	got, err := load(t, c, docker(t, a, b), LoadOptions{})
	require.NoError(t, err)
	require.Len(t, got, 3)
	assert.Equal(t, got[0].Reference, got[1].Reference, "two spellings of one reference are both kept")
}

func TestLoadRefusesAndLeavesNothing(t *testing.T) {
	t.Parallel()
	good := base(t)
	lie := func(blob []byte) source {
		return source{tags: []string{"x"}, layers: [][]byte{good}, blobs: [][]byte{blob}}
	}
	damaged := zip(t, good)
	damaged[len(damaged)/2] ^= 0x55
	asFound := bytes.Replace(layout(t, image("x", good), spec.MediaTypeImageLayer), []byte("root:x:0:0"), []byte("root::0:00"), 1)
	for name, c := range map[string]struct {
		want error
		raw  []byte
	}{
		"plain layer with another diff_id": {oci.ErrDigestMismatch, docker(t, lie(top(t)))},
		"zipped layer, another diff_id":    {oci.ErrDigestMismatch, docker(t, lie(zip(t, top(t))))},
		"trailing bytes":                   {oci.ErrDigestMismatch, docker(t, lie(append(bytes.Clone(good), 0)))},
		"blob changed in a layout":         {oci.ErrDigestMismatch, asFound},
		"damaged gzip":                     {oci.ErrCompression, docker(t, lie(damaged))},
		"climbing path":                    {oci.ErrLayer, docker(t, image("x", pack(t, file("../x", ""))))},
		"dangling hard link":               {oci.ErrLayer, docker(t, image("x", pack(t, entry{tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"}, ""})))},
		"hard link to nothing":             {oci.ErrLayer, docker(t, image("x", pack(t, entry{tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "etc/passwd"}, ""})))},
		"second layer broken":              {oci.ErrLayer, docker(t, image("x", good, pack(t, file("a/.wh...", ""))))},
		"no tar":                           {oci.ErrLayer, docker(t, image("x", bytes.Repeat([]byte("x"), 1024)))},
		"no archive":                       {oci.ErrArchive, bytes.Repeat([]byte("x"), 1024)},
		"empty":                            {oci.ErrArchive, nil},
	} {
		cache := open(t)
		got, err := load(t, cache, c.raw, LoadOptions{})
		assert.ErrorIs(t, err, c.want, name)
		assert.Empty(t, got, name)
		assert.Empty(t, images(t, cache), name)
	}
}

func TestLoadLimits(t *testing.T) {
	t.Parallel()
	zeros := pack(t, file("zeros", strings.Repeat("\x00", 8<<20)))
	bomb := source{tags: []string{"x"}, layers: [][]byte{zeros}, blobs: [][]byte{squeeze(t, zeros)}}
	two := docker(t, image("x", base(t), top(t)))
	for name, c := range map[string]struct {
		set func(l *Limits)
		raw []byte
	}{
		"absolute":    {func(l *Limits) { l.Blob.Bytes = 1 << 20 }, docker(t, bomb)},
		"ratio":       {func(l *Limits) { l.Blob.RatioFloor = 1 << 20 }, docker(t, bomb)},
		"layer":       {func(l *Limits) { l.Layer.LayerBytes = 1 << 20 }, docker(t, bomb)},
		"image bytes": {func(l *Limits) { l.ImageBytes = 20 }, two},
		"image files": {func(l *Limits) { l.ImageFiles = 20 }, two},
	} {
		cache := open(t)
		_, err := load(t, cache, c.raw, LoadOptions{})
		require.NoError(t, err, name)
		cache = open(t)
		c.set(&cache.Limits)
		_, err = load(t, cache, c.raw, LoadOptions{})
		assert.ErrorIs(t, err, oci.ErrLimit, name)
		assert.Empty(t, images(t, cache), name)
	}
}

func TestConcurrentLoadsConvertOnce(t *testing.T) {
	t.Parallel()
	c := open(t)
	raw := docker(t, image("app", base(t), top(t)))
	var wg sync.WaitGroup
	var mu sync.Mutex
	conversions := 0
	for range 6 {
		wg.Go(func() {
			own, err := Open(c.dir)
			assert.NoError(t, err)
			own.Platform = c.Platform
			_, err = own.Load(t.Context(), bytes.NewReader(raw), LoadOptions{Progress: func(e oci.Event) {
				if e.Kind == oci.EventWriting {
					mu.Lock()
					conversions++
					mu.Unlock()
				}
			}})
			assert.NoError(t, err)
			_, err = own.Image(t.Context(), "app")
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	assert.Equal(t, 1, conversions)
	assert.Len(t, files(t, c), 5)
}

func TestLoadStopsWithContext(t *testing.T) {
	t.Parallel()
	c := open(t)
	raw := docker(t, image("app", base(t), top(t)))
	for _, at := range []oci.EventKind{oci.EventResolved, oci.EventMaterializeStarted, oci.EventWriting} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := c.Load(ctx, bytes.NewReader(raw), LoadOptions{Progress: func(e oci.Event) {
			if e.Kind == at {
				cancel()
			}
		}})
		assert.ErrorIs(t, err, context.Canceled, at)
		assert.Empty(t, images(t, c))
		cancel()
	}
	held, err := acquire(t.Context(), filepath.Join(c.dir, "manifests", "x.lock"))
	require.NoError(t, err)
	defer held.release()
	ctx, cancel := context.WithTimeout(t.Context(), 3*lockPoll)
	defer cancel()
	_, err = acquire(ctx, filepath.Join(c.dir, "manifests", "x.lock"))
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}

// TestMemoryStaysFlat converts a layer of 96 MiB while watching the heap.
func TestMemoryStaysFlat(t *testing.T) {
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i * i >> 7)
	}
	var entries []entry
	for i := range 96 {
		entries = append(entries, file("f/"+strings.Repeat("x", i+1), string(block)))
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	require.NoError(t, os.WriteFile(path, docker(t, image("big", pack(t, entries...))), 0o600))
	entries = nil
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var peak uint64
	_, err = open(t).Load(t.Context(), f, LoadOptions{Progress: func(oci.Event) {
		runtime.ReadMemStats(&now)
		peak = max(peak, now.HeapAlloc)
	}})
	require.NoError(t, err)
	assert.Less(t, peak, before.HeapAlloc+32<<20)
}
