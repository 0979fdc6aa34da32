package volume

import (
	"context"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/rootfs/ext4"
)

func locked(t *testing.T, f Folder, name string) *Lock {
	t.Helper()
	l, err := f.Lock(t.Context(), name)
	require.NoError(t, err)
	t.Cleanup(l.Release)
	return l
}

func TestNames(t *testing.T) {
	for _, good := range []string{"a", "0", "a.b-c_D", strings.Repeat("x", maxName)} {
		assert.NoError(t, CheckName(good))
	}
	for _, bad := range []string{"", ".", "..", ".a", "-a", "_a", "a/b", "a b", "a:b", "ä", "a\x00", "a~new", strings.Repeat("x", maxName+1)} {
		assert.ErrorIs(t, CheckName(bad), ErrName, bad)
		_, err := Folder(t.TempDir()).Lock(t.Context(), bad)
		assert.ErrorIs(t, err, ErrName, bad)
	}
}

func TestDirectory(t *testing.T) {
	f := Folder(filepath.Join(t.TempDir(), "volumes"))
	l := locked(t, f, "data")
	require.NoError(t, l.Create(0))
	require.NoError(t, l.Listed())
	info, err := os.Stat(f.Path("data"))
	require.NoError(t, err)
	assert.True(t, info.IsDir())
	require.NoError(t, os.WriteFile(filepath.Join(f.Path("data"), "kept"), nil, 0o600))
	assert.ErrorIs(t, l.Create(0), ErrForeign)
	assert.FileExists(t, filepath.Join(f.Path("data"), "kept"))
	require.NoError(t, l.Unlist())
	require.NoError(t, l.Delete())
	assert.NoDirExists(t, f.Path("data"))
	require.NoError(t, l.Delete(), "once more")
}

func TestDisk(t *testing.T) {
	f := Folder(t.TempDir())
	l := locked(t, f, "d")
	assert.ErrorIs(t, l.Create(1), ErrOptions)
	assert.NoDirExists(t, f.Path("d"))
	require.NoError(t, l.Create(16))
	info, err := os.Stat(f.Disk("d"))
	require.NoError(t, err)
	assert.EqualValues(t, 16<<20, info.Size())
	used, err := f.Used("d", true)
	require.NoError(t, err)
	assert.Positive(t, used)
	assert.Less(t, used, info.Size())
	file, err := os.Open(f.Disk("d"))
	require.NoError(t, err)
	defer file.Close()
	_, err = ext4.Inspect(file)
	require.NoError(t, err)
	left, err := filepath.Glob(filepath.Join(string(f), ".d~*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

// A process that was killed in the middle leaves files that nobody lists; the next to
// create the volume is not kept from it.
func TestWhatKilledProcessesLeave(t *testing.T) {
	for name, left := range map[string]func(l *Lock){
		"unfinished":   func(l *Lock) { require.NoError(t, os.MkdirAll(l.beside("new"), 0o700)) },
		"not listed":   func(l *Lock) { require.NoError(t, l.Create(8)) },
		"half removed": func(l *Lock) { require.NoError(t, os.MkdirAll(filepath.Join(l.beside("old"), "x"), 0o700)) },
		"forgotten": func(l *Lock) {
			require.NoError(t, l.Create(0))
			require.NoError(t, l.Listed())
			require.NoError(t, os.WriteFile(filepath.Join(l.folder.Path(l.name), "x"), nil, 0o600))
			require.NoError(t, l.Unlist())
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := Folder(t.TempDir())
			dead := locked(t, f, "v")
			left(dead)
			dead.Release()
			l := locked(t, f, "v")
			require.NoError(t, l.Create(0))
			require.NoError(t, l.Listed())
			entries, err := os.ReadDir(f.Path("v"))
			require.NoError(t, err)
			assert.Empty(t, entries)
			require.NoError(t, l.Unlist())
			require.NoError(t, l.Delete())
			entries, err = os.ReadDir(string(f))
			require.NoError(t, err)
			assert.Len(t, entries, 1, "the locks")
		})
	}
}

func TestLocksExclude(t *testing.T) {
	f := Folder(t.TempDir())
	l := locked(t, f, "a")
	other := locked(t, f, "b")
	other.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := f.Lock(ctx, "a")
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	if flock, err := exec.LookPath("flock"); err == nil {
		assert.Error(t, exec.Command(flock, "-n", filepath.Join(string(f), ".locks", "a.lock"), "true").Run(), "another program sees it")
	}
	time.AfterFunc(50*time.Millisecond, l.Release)
	locked(t, f, "a")
}

func TestUsed(t *testing.T) {
	f := Folder(t.TempDir())
	_, err := f.Used("none", false)
	assert.ErrorIs(t, err, os.ErrNotExist)
	dir := f.Path("v")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub", "\xff"), 0o700))
	file := func(name string, size int64) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		require.NoError(t, os.Truncate(filepath.Join(dir, name), size))
	}
	file("a", 1000)
	file("sub/\xff/b", 1<<20)
	require.NoError(t, os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "sub", "again")))
	require.NoError(t, os.Symlink("/", filepath.Join(dir, "out")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	used, err := f.Used("v", false)
	require.NoError(t, err)
	assert.EqualValues(t, 1000+1<<20, used)

	deep := filepath.Join(dir, strings.Repeat("d/", maxDepth))
	require.NoError(t, os.MkdirAll(deep, 0o700))
	_, err = f.Used("v", false)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(deep, "d"), 0o700))
	_, err = f.Used("v", false)
	assert.ErrorIs(t, err, ErrDeep)
}

// huge is a file as long as can be, which takes no space if it is a hole.
type huge struct{ fs.FileInfo }

func (huge) Size() int64 { return math.MaxInt64 }
func (huge) Sys() any    { return &syscall.Stat_t{Nlink: 1} }

func TestUsedDoesNotOverflow(t *testing.T) {
	var c counter
	for range 3 {
		c.file(huge{})
	}
	assert.EqualValues(t, math.MaxInt64, c.total)
}
