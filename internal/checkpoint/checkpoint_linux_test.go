package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/snapshot/format"
)

// manifest is that of a machine with a read-only and two writable disks.
func manifest() Manifest {
	return Manifest{
		Source: "box", Created: time.Date(2026, 11, 28, 23, 0, 0, 0, time.UTC), VCPUs: 2, MaxVCPUs: 4, MemoryMiB: 512, MaxMemoryMiB: 1024, Stats: true,
		Net:      &Net{MAC: MAC{2, 0, 0, 0, 0, 1}, MTU: 1500},
		Shares:   []Share{{Tag: "msb_runtime", Name: "msb_runtime"}, {Tag: "msb_share_1", Name: "data_bd47413b"}},
		ReadOnly: []bool{true, false, false},
	}
}

// diskFile makes a sparse file with some data in it.
func diskFile(t *testing.T, name string, size int64, data map[int64]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	for at, text := range data {
		_, err := f.WriteAt([]byte(text), at)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	return path
}

// saved makes a checkpoint with two disks, and something in place of a machine.
func saved(t *testing.T, dir string) {
	t.Helper()
	d, err := Create(dir, format.Lasting)
	require.NoError(t, err)
	require.NoError(t, d.CopyDisk(t.Context(), Disk{Index: 1, Format: "raw", Own: true}, diskFile(t, "upper", 512<<10, map[int64]string{4096: "first", 300 << 10: "second"})))
	require.NoError(t, d.CopyDisk(t.Context(), Disk{Index: 2, Format: "qcow2"}, diskFile(t, "data", 100_001, map[int64]string{99_000: "third"})))
	require.NoError(t, os.Mkdir(d.MachineDir(), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(d.MachineDir(), "state"), []byte("state"), 0o600))
	written, err := d.Written()
	require.NoError(t, err)
	assert.Positive(t, written)
	require.NoError(t, d.Publish(t.Context(), manifest()))
}

func TestSavedAndOpened(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir := filepath.Join(parent, "one")
	saved(t, dir)
	m, err := Open(dir)
	require.NoError(t, err)
	want := manifest()
	want.Disks = []Disk{
		{Index: 1, File: "disks/1", Format: "raw", Own: true, Size: 512 << 10, Sum: m.Disks[0].Sum},
		{Index: 2, File: "disks/2", Format: "qcow2", Size: 100_001, Sum: m.Disks[1].Sum},
	}
	assert.Equal(t, &want, m)
	require.NoError(t, m.Verify(t.Context(), dir))
	b, err := os.ReadFile(m.Disks[0].Path(dir))
	require.NoError(t, err)
	assert.Equal(t, "second", string(b[300<<10:300<<10+6]))
	var st unix.Stat_t
	require.NoError(t, unix.Stat(m.Disks[0].Path(dir), &st))
	assert.Less(t, st.Blocks*512, int64(512<<10), "holes stay holes")
	assertOnly(t, parent, "one")
}

func assertOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	assert.ElementsMatch(t, names, got)
}

func TestPassing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "one")
	d, err := Create(dir, format.Passing)
	require.NoError(t, err)
	assert.Equal(t, format.Passing, d.Lifetime())
	require.NoError(t, d.CopyDisk(t.Context(), Disk{Index: 1, Format: "raw", Own: true}, diskFile(t, "upper", 512<<10, map[int64]string{4096: "first"})))
	m := manifest()
	m.ReadOnly = m.ReadOnly[:2]
	require.NoError(t, d.Publish(t.Context(), m))
	got, err := Open(dir)
	require.NoError(t, err)
	assert.Equal(t, []Disk{{Index: 1, File: "disks/1", Format: "raw", Own: true, Size: 512 << 10}}, got.Disks)
	b, err := os.ReadFile(got.Disks[0].Path(dir))
	require.NoError(t, err)
	assert.Equal(t, "first", string(b[4096:4101]))
	assertOnly(t, filepath.Dir(dir), "one")
}

func TestNamesThatAreTaken(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir := filepath.Join(parent, "one")
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	_, err := Create(dir, format.Lasting)
	assert.ErrorIs(t, err, ErrExists)
	require.NoError(t, os.Remove(dir))
	d, err := Create(dir, format.Lasting)
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(dir, 0o700))
	m := manifest()
	m.ReadOnly = nil
	assert.ErrorIs(t, d.Publish(t.Context(), m), ErrExists)
	assertOnly(t, parent, "one")
}

func TestDraftsThatAreGivenUp(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir := filepath.Join(parent, "one")
	why := errors.New("enough")
	ended, end := context.WithCancelCause(t.Context())
	end(why)
	path := diskFile(t, "disk", 1<<20, map[int64]string{0: "x"})

	d, err := Create(dir, format.Lasting)
	require.NoError(t, err)
	require.NoError(t, d.Discard())
	assertOnly(t, parent)

	d, err = Create(dir, format.Lasting)
	require.NoError(t, err)
	assert.ErrorIs(t, d.CopyDisk(t.Context(), Disk{Index: 1, Format: "raw"}, filepath.Join(parent, "none")), fs.ErrNotExist)
	require.NoError(t, d.CopyDisk(t.Context(), Disk{Index: 1, Format: "raw"}, path))
	assert.ErrorIs(t, d.Publish(ended, manifest()), why)
	assertOnly(t, parent)

	d, err = Create(dir, format.Lasting)
	require.NoError(t, err)
	assert.ErrorIs(t, d.Publish(t.Context(), manifest()), ErrManifest, "its disks are missing")
	assertOnly(t, parent)

	live, err := Create(dir, format.Lasting)
	require.NoError(t, err)
	dead := filepath.Join(parent, ".one.0"+stagingSuffix) // nobody has it locked
	require.NoError(t, os.MkdirAll(filepath.Join(dead, disksName), 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(dead, ".machine.1.checkpoint"), 0o700))
	foreign := filepath.Join(parent, ".one.1"+stagingSuffix)
	require.NoError(t, os.MkdirAll(filepath.Join(foreign, "precious"), 0o700))
	saved(t, dir)
	assertOnly(t, parent, "one", filepath.Base(live.place.Path), filepath.Base(foreign))
	require.NoError(t, live.Discard())
}

func TestDamagedDirectories(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(dir string) error
		want   error
	}{
		"no directory":      {os.RemoveAll, fs.ErrNotExist},
		"no manifest":       {func(dir string) error { return os.Remove(filepath.Join(dir, manifestName)) }, ErrDamaged},
		"an empty manifest": {func(dir string) error { return os.Truncate(filepath.Join(dir, manifestName), 0) }, ErrDamaged},
		"a huge manifest":   {func(dir string) error { return os.Truncate(filepath.Join(dir, manifestName), maxManifest+1) }, ErrDamaged},
		"a pipe": {func(dir string) error {
			return replace(dir, manifestName, func(p string) error { return unix.Mkfifo(p, 0o600) })
		}, ErrDamaged},
		"a link": {func(dir string) error {
			return replace(dir, manifestName, func(p string) error { return os.Symlink("/etc/passwd", p) })
		}, ErrDamaged},
		"no disk":        {func(dir string) error { return os.Remove(filepath.Join(dir, "disks", "2")) }, ErrDamaged},
		"a shorter disk": {func(dir string) error { return os.Truncate(filepath.Join(dir, "disks", "1"), 4<<10) }, ErrDamaged},
		"a disk that is a link": {func(dir string) error {
			return replace(dir, "disks/1", func(p string) error { return os.Symlink("2", p) })
		}, ErrDamaged},
		"disks elsewhere": {func(dir string) error {
			return replace(dir, "disks", func(p string) error { return os.Symlink("/tmp", p) })
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "one")
			saved(t, dir)
			require.NoError(t, c.damage(dir))
			m, err := Open(dir)
			if err == nil {
				err = m.Verify(t.Context(), dir)
			}
			require.Error(t, err)
			if c.want != nil {
				assert.ErrorIs(t, err, c.want)
			}
			assert.ErrorContains(t, err, dir)
		})
	}
}

func replace(dir, name string, with func(path string) error) error {
	path := filepath.Join(dir, name)
	return errors.Join(os.RemoveAll(path), with(path))
}

func TestManifestsOfOtherVersions(t *testing.T) {
	t.Parallel()
	_, err := decode([]byte(`{"version":2,"manifest":{},"sha256":""}`))
	assert.ErrorIs(t, err, ErrVersion)
	_, err = decode([]byte(`{"version":2,"everything":"else"}`))
	assert.ErrorIs(t, err, ErrVersion)
	_, err = decode([]byte(`{"version":0}`))
	assert.ErrorIs(t, err, ErrVersion)
	for _, text := range []string{"", "{", "[]", `{"version":1}`, `{"version":1,"manifest":{},"sha256":"` + digest([]byte("{}")) + `"}`, `{"version":1,"more":2}`} {
		_, err := decode([]byte(text))
		assert.ErrorIs(t, err, ErrDamaged, "%s", text)
	}
}

func TestManifestsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	good := func() *Manifest {
		m := manifest()
		m.Disks = []Disk{{Index: 1, File: "disks/1", Format: "raw"}, {Index: 2, File: "disks/2", Format: "qcow2"}}
		return &m
	}
	require.NoError(t, good().Validate())
	for name, change := range map[string]func(*Manifest){
		"no source":       func(m *Manifest) { m.Source = "" },
		"a long source":   func(m *Manifest) { m.Source = strings.Repeat("a", maxText+1) },
		"no processor":    func(m *Manifest) { m.VCPUs = 0 },
		"too many":        func(m *Manifest) { m.MaxVCPUs = maxProcessors + 1 },
		"fewer at most":   func(m *Manifest) { m.MaxVCPUs = 1 },
		"no memory":       func(m *Manifest) { m.MemoryMiB = 0 },
		"less at most":    func(m *Manifest) { m.MaxMemoryMiB = 1 },
		"too much":        func(m *Manifest) { m.MaxMemoryMiB = maxMemoryMiB + 1 },
		"no tag":          func(m *Manifest) { m.Shares[0].Tag = "" },
		"many disks":      func(m *Manifest) { m.ReadOnly = make([]bool, maxDisks+1) },
		"no copy":         func(m *Manifest) { m.Disks = m.Disks[:1] },
		"other order":     func(m *Manifest) { m.Disks[0], m.Disks[1] = m.Disks[1], m.Disks[0] },
		"one too many":    func(m *Manifest) { m.Disks = append(m.Disks, m.Disks[1]) },
		"elsewhere":       func(m *Manifest) { m.Disks[0].File = "../disk" },
		"another format":  func(m *Manifest) { m.Disks[0].Format = "vmdk" },
		"a negative size": func(m *Manifest) { m.Disks[0].Size = -1 },
	} {
		m := good()
		change(m)
		_, err := m.encode()
		assert.ErrorIs(t, err, ErrManifest, name)
	}
}

func TestSums(t *testing.T) {
	t.Parallel()
	sum := func(path string) Sum {
		f, err := os.Open(path)
		require.NoError(t, err)
		defer func() { _ = f.Close() }()
		info, err := f.Stat()
		require.NoError(t, err)
		s, err := sumOf(t.Context(), f, info.Size())
		require.NoError(t, err)
		return s
	}
	holes := diskFile(t, "holes", 3<<20, map[int64]string{1<<20 + 5: "data"})
	full := diskFile(t, "full", 3<<20, map[int64]string{0: strings.Repeat("\x00", 3<<20)})
	f, err := os.OpenFile(full, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("data"), 1<<20+5)
	require.NoError(t, errors.Join(err, f.Close()))
	assert.Equal(t, sum(holes), sum(full), "holes are zeros")
	moved := diskFile(t, "moved", 3<<20, map[int64]string{1<<20 + 5 + sumBlock: "data"})
	assert.NotEqual(t, sum(holes), sum(moved))
	assert.Zero(t, sum(diskFile(t, "empty", 0, nil)))

	var s Sum
	b, err := json.Marshal(Sum(0xabcd))
	require.NoError(t, err)
	assert.Equal(t, `"0000abcd"`, string(b))
	require.NoError(t, json.Unmarshal(b, &s))
	assert.Equal(t, Sum(0xabcd), s)
	for _, bad := range []string{`""`, `"0000ABCD"`, `"abcd"`, `"00000abcd"`, `"0000abcx"`, `1`} {
		assert.Error(t, json.Unmarshal([]byte(bad), &s), bad)
	}
}
