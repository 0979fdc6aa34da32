package snapshot

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gomsb/gomsb/snapshot/descriptor"
	"github.com/gomsb/gomsb/snapshot/integrity"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

var ctx = context.Background()

func config(t *testing.T) Config {
	dir := t.TempDir()
	upper := filepath.Join(dir, "disk")
	f, err := os.Create(upper)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(1<<30))
	_, err = f.WriteAt([]byte("data"), 512<<20)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return Config{Dir: filepath.Join(dir, "snapshots"), Name: "base", Upper: upper, ImageRef: "docker.io/library/alpine:3",
		ImageManifestDigest: "sha256:" + strings.Repeat("a", 64), SourceSandbox: "box",
		Labels: map[string]string{"k": "v"}, CreatedAt: time.Now(), Integrity: true}
}

func TestLife(t *testing.T) {
	c := config(t)
	a, err := Create(ctx, c)
	require.NoError(t, err)
	var st unix.Stat_t
	require.NoError(t, unix.Stat(a.Payload(), &st))
	require.EqualValues(t, 1<<30, st.Size)
	require.Less(t, st.Blocks*512, int64(1<<20), "holes are kept")

	recorded, err := a.Verify(ctx)
	require.NoError(t, err)
	require.True(t, recorded)

	_, err = Create(ctx, c)
	require.ErrorIs(t, err, ErrExists)
	c.Force, c.Integrity = true, false
	b, err := Create(ctx, c)
	require.NoError(t, err)
	require.NotEqual(t, a.Digest, b.Digest)
	recorded, err = b.Verify(ctx)
	require.NoError(t, err)
	require.False(t, recorded)

	moved := filepath.Join(t.TempDir(), "elsewhere")
	require.NoError(t, os.Rename(b.Path, moved))
	c.Name = "second"
	_, err = Create(ctx, c)
	require.NoError(t, err)
	again, err := Open(moved)
	require.NoError(t, err)
	require.Equal(t, b.Digest, again.Digest)

	require.NoError(t, os.Mkdir(filepath.Join(c.Dir, "junk"), 0o700))
	var bad []string
	list, err := List(c.Dir, func(path string, _ error) { bad = append(bad, filepath.Base(path)) })
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, []string{"junk"}, bad)
	require.ErrorIs(t, Remove(ctx, filepath.Join(c.Dir, "junk")), ErrNotFound)
	require.NoError(t, Remove(ctx, list[0].Path))
	require.ErrorIs(t, Remove(ctx, list[0].Path), ErrNotFound)
	entries, err := os.ReadDir(c.Dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing staged is left")
}

func TestNames(t *testing.T) {
	c := config(t)
	for _, name := range []string{"", ".", "..", "a/b", `a\b`, "a:b", ".hidden", "~x", "a\x00", "a\nb", "\x1b[1m", strings.Repeat("x", 241)} {
		c.Name = name
		_, err := Create(ctx, c)
		require.ErrorIs(t, err, ErrName, name)
	}
}

func TestDamage(t *testing.T) {
	a, err := Create(ctx, config(t))
	require.NoError(t, err)
	f, err := os.OpenFile(a.Payload(), os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("x"), 9)
	require.NoError(t, err)
	_, err = a.Verify(ctx)
	require.ErrorIs(t, err, integrity.ErrMismatch)
	require.NoError(t, f.Truncate(5))
	require.NoError(t, f.Close())
	_, err = Open(a.Path)
	require.ErrorIs(t, err, ErrPayload)
	require.NoError(t, os.Remove(a.Payload()))
	require.NoError(t, os.Symlink("/dev/zero", a.Payload()))
	_, err = Open(a.Path)
	require.ErrorIs(t, err, ErrPayload)
	file := filepath.Join(a.Path, descriptor.FileName)
	require.NoError(t, os.Rename(file, filepath.Join(a.Path, "elsewhere")))
	_, err = Open(a.Path)
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, os.Symlink("elsewhere", file))
	_, err = Open(a.Path)
	require.ErrorIs(t, err, ErrNotFound)
}

// TestLegacy opens what 0.5.7 made, by the identity that 0.6.18 gives it, and leaves it
// as it is.
func TestLegacy(t *testing.T) {
	const text = `{"schema": 1, "format": "raw", "fstype": "ext4", "image": {"ref": "mini:latest", "manifest_digest":
		"sha256:a5930eba96e3d5db411b0ebd78393e29a594a770845ef081ee1d26f5c0f3fd9d"}, "parent": null, "created_at": "2026-05-01T12:00:00.100Z",
		"labels": {"b": "2", "a": "1"}, "upper": {"file": "upper.ext4", "size_bytes": 536870912, "integrity": null}, "source_sandbox": "box"}`
	dir := t.TempDir()
	file := filepath.Join(dir, "manifest.json")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, PayloadName), nil, 0o600))
	require.NoError(t, os.Truncate(filepath.Join(dir, PayloadName), 512<<20))
	a, err := Open(dir)
	require.NoError(t, err)
	require.Equal(t, "sha256:7ba7e9e01d5e93811795d30635efafd85fd7f743bd6890ade96785e8fc7636b6", a.Digest, "what 0.6.18 migrates it to")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2)
	for _, change := range []string{`"schema": 1|"schema": 2`, `"fstype": "ext4", |`, `"parent": null|"parent": "sha256:` + strings.Repeat("c", 64) + `"`, `upper.ext4|../x`} {
		from, to, _ := strings.Cut(change, "|")
		require.NoError(t, os.WriteFile(file, []byte(strings.Replace(text, from, to, 1)), 0o600))
		_, err = Open(dir)
		require.ErrorIs(t, err, ErrLegacy, change)
	}
	require.NoError(t, Remove(ctx, dir))
}

func TestMissingDiskLeavesNothing(t *testing.T) {
	c := config(t)
	c.Upper += ".none"
	_, err := Create(ctx, c)
	require.ErrorIs(t, err, os.ErrNotExist)
	entries, err := os.ReadDir(c.Dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// TestKilledCreate kills a process that replaces one snapshot over and over, and finds a
// whole one every time.
func TestKilledCreate(t *testing.T) {
	c := config(t)
	if dir := os.Getenv("SNAPSHOT_TEST_KILL"); dir != "" {
		c.Dir, c.Force = dir, true
		for {
			c.CreatedAt = time.Now()
			_, err := Create(ctx, c)
			require.NoError(t, err)
		}
	}
	_, err := Create(ctx, c)
	require.NoError(t, err)
	for i := range 20 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledCreate$")
		cmd.Env = append(os.Environ(), "SNAPSHOT_TEST_KILL="+c.Dir, "TMPDIR="+t.TempDir())
		require.NoError(t, cmd.Start())
		time.Sleep(time.Duration(40+i*7) * time.Millisecond)
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
		a, err := Open(filepath.Join(c.Dir, c.Name))
		require.NoError(t, err)
		_, err = a.Verify(ctx)
		require.NoError(t, err)
	}
	c.Force = true
	_, err = Create(ctx, c)
	require.NoError(t, err)
	entries, err := os.ReadDir(c.Dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "staged remains are removed")
}

// TestStagedRemains finds what a killed Create or Remove of another name left removed by
// the next change, and what somebody else has there left alone.
func TestStagedRemains(t *testing.T) {
	c := config(t)
	_, err := Create(ctx, c)
	require.NoError(t, err)
	leave := func() {
		for name, files := range map[string][]string{
			"begun": nil, "half": {PayloadName}, "whole": {PayloadName, descriptor.FileName}, "going": {descriptor.FileName},
			"app": {"index.html", descriptor.FileName},
		} {
			dir := stagingPath(c.Dir, name)
			require.NoError(t, os.MkdirAll(dir, 0o700))
			for _, f := range files {
				require.NoError(t, os.WriteFile(filepath.Join(dir, f), nil, 0o600))
			}
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(c.Dir, ".file.staging"), nil, 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(c.Dir, "..staging"), 0o700))
	theirs := []string{".app.staging", ".file.staging", "..staging"}
	leave()
	c.Name = "next"
	a, err := Create(ctx, c)
	require.NoError(t, err)
	require.ElementsMatch(t, append(theirs, "base", "next"), names(t, c.Dir))
	leave()
	require.NoError(t, Remove(ctx, a.Path))
	require.ElementsMatch(t, append(theirs, "base"), names(t, c.Dir))
	leave()
	s, err := NewStaging(ctx, c.Dir)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.ElementsMatch(t, append(theirs, "base"), names(t, c.Dir))
}
