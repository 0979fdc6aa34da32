package blk

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// space is how much of the host's disk a file takes, in bytes.
func space(t *testing.T, path string) int64 {
	t.Helper()
	var st syscall.Stat_t
	require.NoError(t, syscall.Stat(path, &st))
	return st.Blocks * 512
}

// TestSpaceIsGivenBack by a discard and by zeroes with unmap, and not without.
func TestSpaceIsGivenBack(t *testing.T) {
	t.Parallel()
	path := image(t, noise(1<<20))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Sync())
	if unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096) != nil {
		// Then a discard has no effect, but is none the worse.
		require.NoError(t, openRaw(t, path, false).Discard(0, 1<<19))
		return
	}
	before := space(t, path)
	g := newGuest(t, openRaw(t, path, false), virtiotest.Config{})
	g.ok(kindDiscard, 0, g.ranges([3]uint64{0, 512, 0}))
	assert.LessOrEqual(t, space(t, path), before-(1<<18)+8192)
	g.ok(kindWriteZeroes, 0, g.ranges([3]uint64{512, 512, flagUnmap}))
	assert.LessOrEqual(t, space(t, path), before-(1<<19)+8192)
	before = space(t, path)
	g.ok(kindWriteZeroes, 0, g.ranges([3]uint64{1024, 1024, 0}))
	assert.GreaterOrEqual(t, space(t, path), before)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.EqualValues(t, 1<<20, info.Size())
}

// TestTryReadOfUncachedData does not wait for the disk.
func TestTryReadOfUncachedData(t *testing.T) {
	t.Parallel()
	path := image(t, noise(1<<20))
	b := openRaw(t, path, true).(*raw)
	got := [][]byte{make([]byte, 4096), make([]byte, 4096)}
	a, err := b.TryReadV(0, got)
	require.NoError(t, err)
	if a == attemptUnknown {
		// tmpfs, for one; the file is not asked again.
		assert.True(t, b.unknown.Load())
		return
	}
	require.Equal(t, attemptDone, a, "it was just written")
	assert.Equal(t, noise(8192), append(got[0], got[1]...))
	require.NoError(t, unix.Fdatasync(b.fd))
	require.NoError(t, unix.Fadvise(b.fd, 0, 0, unix.FADV_DONTNEED))
	a, err = b.TryReadV(512<<10, got)
	require.NoError(t, err)
	assert.Contains(t, []attempt{attemptBlocks, attemptDone}, a, "whatever the page cache did")
	require.NoError(t, b.ReadV(512<<10, got))
	a, err = b.TryReadV(512<<10, got)
	require.NoError(t, err)
	assert.Equal(t, attemptDone, a)
	a, err = b.TryReadV(1<<20, got)
	require.NoError(t, err)
	assert.Equal(t, attemptBlocks, a, "behind the end only ReadV knows why")
}

// TestSecondTryIsNotAsked of a file that does not know RWF_NOWAIT.
func TestSecondTryIsNotAsked(t *testing.T) {
	t.Parallel()
	b := openRaw(t, image(t, noise(1<<20)), true).(*raw)
	b.unknown.Store(true)
	g := newGuest(t, b, virtiotest.Config{})
	assert.Equal(t, noise(4096), g.read(0, 4096))
	for i := range 20 {
		g.add(kindRead, uint64(i), in(uint64(i)*512, 512))
	}
	g.q.Kick()
	for range 20 {
		g.q.Wait()
	}
	assert.Equal(t, noise(20*512), append([]byte(nil), g.data(0, 20*512)...))
}
