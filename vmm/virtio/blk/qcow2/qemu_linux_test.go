package qcow2

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gomsb/gomsb/vmm/virtio/blk"
)

func TestMain(m *testing.M) {
	setup := exec.Command("../../../../hack/setup", "qemu-utils:qemu-img")
	setup.Stdout, setup.Stderr = os.Stderr, os.Stderr
	if err := setup.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "install qemu-utils:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func qemu(t testing.TB, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %q: %s", name, args, out)
}

// check has qemu-img look for errors, which leaks are not.
func check(t testing.TB, path string) {
	t.Helper()
	out, err := exec.Command("qemu-img", "check", path).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		return
	}
	require.NoError(t, err, "%s", out)
}

// content is what qemu-img finds in an image.
func content(t testing.TB, path string) []byte {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "raw")
	qemu(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
	b, err := os.ReadFile(raw)
	require.NoError(t, err)
	return b
}

// create makes an empty image of size bytes.
func create(t testing.TB, options string, size int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, fmt.Sprint(size))
	return path
}

func random(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func openTest(t testing.TB, path string, readOnly bool) *image {
	t.Helper()
	b, err := Open(path, readOnly)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	return b.(*image)
}

func readAll(t testing.TB, b blk.Backend) []byte {
	t.Helper()
	got := make([]byte, b.Size())
	require.NoError(t, b.ReadV(0, [][]byte{got[:512], got[512:]}))
	return got
}

var variants = []string{
	"compat=0.10", "compat=1.1", "cluster_size=512", "cluster_size=4096", "cluster_size=2M", "compat=0.10,cluster_size=512",
	"refcount_bits=1", "refcount_bits=2", "refcount_bits=4", "refcount_bits=8", "refcount_bits=32", "refcount_bits=64", "cluster_size=512,refcount_bits=64",
	"cluster_size=512,refcount_bits=1", "lazy_refcounts=on", "preallocation=metadata", "preallocation=full", "compression_type=zstd",
}

// sparse is a disk with data, holes and patterns that compress.
func sparse(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	copy(b[100<<10:], random(r, 700<<10))
	copy(b[1<<20:], bytes.Repeat([]byte("compressible "), 50000))
	copy(b[n-5000:], random(r, 5000))
	return b
}

func TestImagesOfQEMU(t *testing.T) {
	t.Parallel()
	want := sparse(5<<20 + 512)
	raw := filepath.Join(t.TempDir(), "raw")
	require.NoError(t, os.WriteFile(raw, want, 0o600))
	for _, options := range variants {
		for _, compress := range []bool{false, true} {
			if compress && (options == "preallocation=full" || options == "preallocation=metadata") {
				continue
			}
			t.Run(fmt.Sprint(options, compress), func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), "disk.qcow2")
				args := []string{"convert", "-f", "raw", "-O", "qcow2", "-o", options}
				if compress {
					args = append(args, "-c")
				}
				qemu(t, "qemu-img", append(args, raw, path)...)
				require.True(t, bytes.Equal(want, readAll(t, openTest(t, path, true))), "read-only")
				m := openTest(t, path, false)
				require.True(t, bytes.Equal(want, readAll(t, m)), "writable")
				model := append([]byte(nil), want...)
				churn(t, m, model, rand.New(rand.NewPCG(3, 4)), 150)
				require.NoError(t, m.Flush())
				require.NoError(t, m.Close())
				check(t, path)
				assert.True(t, bytes.Equal(model, content(t, path)), "what was written")
			})
		}
	}
}

// churn does count random things to m and to model.
func churn(t testing.TB, m *image, model []byte, r *rand.Rand, count int) {
	t.Helper()
	sectors := len(model) / 512
	for range count {
		n := 1 + r.IntN(min(sectors, 1<<r.IntN(12)))
		at := r.IntN(sectors - n + 1)
		off, b := uint64(at)*512, model[at*512:(at+n)*512]
		switch k := r.IntN(20); {
		case k < 9:
			copy(b, random(r, len(b)))
			cut := r.IntN(len(b) + 1)
			require.NoError(t, m.WriteV(off, [][]byte{b[:cut], b[cut:]}))
		case k < 14:
			got := make([]byte, len(b))
			cut := r.IntN(len(b) + 1)
			require.NoError(t, m.ReadV(off, [][]byte{got[:cut], got[cut:]}))
			require.True(t, bytes.Equal(b, got), "read of %d sectors at %d", n, at)
		case k < 16:
			clear(b)
			require.NoError(t, m.WriteZeroes(off, uint64(len(b)), k == 14))
		case k < 18:
			require.NoError(t, m.Discard(off, uint64(len(b))))
			require.NoError(t, m.ReadV(off, [][]byte{b}))
		default:
			require.NoError(t, m.Flush())
		}
	}
	require.True(t, bytes.Equal(model, readAll(t, m)), "at the end")
}

func TestRandomOperations(t *testing.T) {
	t.Parallel()
	for i, options := range variants {
		t.Run(options, func(t *testing.T) {
			t.Parallel()
			path := create(t, options, 9<<20)
			model := make([]byte, 9<<20)
			r := rand.New(rand.NewPCG(5, uint64(i)))
			for range 4 { // sessions
				m := openTest(t, path, false)
				churn(t, m, model, r, 100)
				require.NoError(t, m.Flush())
				require.NoError(t, m.Close())
				check(t, path)
			}
			assert.True(t, bytes.Equal(model, content(t, path)))
		})
	}
}

// TestTinyCaches write back all the time.
func TestTinyCaches(t *testing.T) {
	t.Parallel()
	path := create(t, "cluster_size=512", 16<<20)
	m := openTest(t, path, false)
	m.l2.limit, m.alloc.blocks.limit = 2, 2
	m.l2.slots, m.alloc.blocks.slots = nil, nil
	clear(m.l2.index)
	clear(m.alloc.blocks.index)
	model := make([]byte, 16<<20)
	churn(t, m, model, rand.New(rand.NewPCG(6, 6)), 200)
	require.NoError(t, m.Flush())
	check(t, path)
	assert.True(t, bytes.Equal(model, content(t, path)))
}

// TestSnapshotStays as it was while the disk is written.
func TestSnapshotStays(t *testing.T) {
	t.Parallel()
	for _, options := range []string{"cluster_size=4096", "compat=0.10", "refcount_bits=2"} {
		path := create(t, options, 4<<20)
		m := openTest(t, path, false)
		before := make([]byte, 4<<20)
		r := rand.New(rand.NewPCG(7, 7))
		churn(t, m, before, r, 80)
		require.NoError(t, m.Flush())
		require.NoError(t, m.Close())
		qemu(t, "qemu-img", "snapshot", "-c", "one", path)
		m = openTest(t, path, false)
		after := append([]byte(nil), before...)
		churn(t, m, after, r, 80)
		require.NoError(t, m.Flush())
		require.NoError(t, m.Close())
		check(t, path)
		assert.True(t, bytes.Equal(after, content(t, path)), "the disk")
		qemu(t, "qemu-img", "snapshot", "-a", "one", path)
		assert.True(t, bytes.Equal(before, content(t, path)), "the snapshot")
	}
}

// TestCrash cuts the changes of an image off at any point, and also loses any of those
// that were not flushed. No cut may be more than a leak, and what was flushed is there.
func TestCrash(t *testing.T) {
	t.Parallel()
	for i, options := range []string{"cluster_size=512", "cluster_size=4096", "cluster_size=64k", "cluster_size=512,refcount_bits=64", "compat=0.10"} {
		t.Run(options, func(t *testing.T) {
			t.Parallel()
			start, err := os.ReadFile(create(t, options, 3<<20))
			require.NoError(t, err)
			f := newMemory(append([]byte(nil), start...))
			f.record = true
			m, err := open(f, false)
			require.NoError(t, err)
			r := rand.New(rand.NewPCG(8, uint64(i)))
			model := make([]byte, 3<<20)
			churn(t, m, model, r, 150)
			path := filepath.Join(t.TempDir(), "crash.qcow2")
			for trial := range 40 {
				cut := r.IntN(len(f.log) + 1)
				flushed := cut // all that is before it is durable
				if trial%2 == 1 {
					for flushed > 0 && !f.log[flushed-1].sync {
						flushed--
					}
				}
				after := newMemory(append([]byte(nil), start...))
				for j, c := range f.log[:cut] {
					switch {
					case c.sync || j >= flushed && r.IntN(2) == 0:
					case c.data == nil:
						require.NoError(t, after.Grow(c.off))
					default:
						require.NoError(t, after.put(c.off, c.data))
					}
				}
				require.NoError(t, os.WriteFile(path, after.b, 0o600))
				check(t, path)
			}
		})
	}
}

func TestConcurrentRequests(t *testing.T) {
	t.Parallel()
	const workers, each = 4, 2 << 20
	path := create(t, "cluster_size=64k", workers*each)
	m := openTest(t, path, false)
	model := make([]byte, workers*each)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(9, uint64(w)))
			for range 200 {
				// Sectors of one cluster belong to different workers.
				n := 1 + r.IntN(20)
				at := (r.IntN(workers*each/512/workers-n) * workers) + w
				for k := range n {
					off := (at + k*workers) * 512
					b := model[off : off+512]
					copy(b, random(r, 512))
					assert.NoError(t, m.WriteV(uint64(off), [][]byte{b}))
					got := make([]byte, 512)
					assert.NoError(t, m.ReadV(uint64(off), [][]byte{got}))
					assert.Equal(t, b, got)
				}
				switch r.IntN(20) {
				case 0:
					assert.NoError(t, m.Flush())
				case 1:
					// A discard of less than a cluster changes nothing, and takes the locks.
					assert.NoError(t, m.Discard(uint64(at)*512, 1024))
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, m.Flush())
	check(t, path)
	assert.True(t, bytes.Equal(model, content(t, path)))
}
