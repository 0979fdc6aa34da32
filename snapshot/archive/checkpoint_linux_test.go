package archive

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/snapshot"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

const memorySize = 64 << 20

// full makes a snapshot with the files of a checkpoint.
func full(t testing.TB) *snapshot.Artefact {
	t.Helper()
	fill := func(_ context.Context, dir string) (map[string]any, error) {
		for name, content := range map[string]string{
			"upper.ext4": "disk", "checkpoint/manifest.json": "{}", "checkpoint/sandbox.json": "{}", "checkpoint/origin": "ours", "checkpoint/machine/machine": "state",
			"checkpoint/machine/memory": "first", "checkpoint/machine/seal": "of this file", "checkpoint/disks/2": "data",
		} {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return nil, err
			}
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				return nil, err
			}
		}
		return map[string]any{"checkpoint": "there is one"}, os.Truncate(filepath.Join(dir, "checkpoint/machine/memory"), memorySize)
	}
	a, err := snapshot.Create(ctx, snapshot.Config{Dir: t.TempDir(), Name: "full", Fill: fill, ImageRef: "mini:latest", ImageManifestDigest: "sha256:" + strings.Repeat("a", 64), CreatedAt: time.Unix(1, 0)})
	require.NoError(t, err)
	return a
}

// filesOf lists what is in a directory.
func filesOf(t *testing.T, dir string) (names []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	}))
	return names
}

func TestCheckpointTravels(t *testing.T) {
	t.Parallel()
	a := full(t)
	require.Equal(t, filepath.Join(a.Path, "checkpoint"), a.Checkpoint())
	assert.Equal(t, "there is one", a.Descriptor.Extensions["checkpoint"])
	for _, plain := range []bool{true, false} {
		b := archived(t, Config{Head: a, Name: "full", Plain: plain})
		assert.Less(t, len(b), 1<<16, "holes take no space")
		c, _, err := unpack(t, b)
		require.NoError(t, err)
		dir := c.Head.Checkpoint()
		assert.Equal(t, []string{"disks/2", "machine/machine", "machine/memory", "manifest.json", "sandbox.json"}, filesOf(t, dir), "the seal and the origin are of this host")
		memory := filepath.Join(dir, "machine", "memory")
		info, err := os.Stat(memory)
		require.NoError(t, err)
		assert.EqualValues(t, memorySize, info.Size())
		assert.Less(t, allocated(t, memory), int64(1<<20))
		content, err := os.ReadFile(memory)
		require.NoError(t, err)
		assert.Equal(t, "first", strings.TrimRight(string(content), "\x00"))
	}
	c, _, err := unpack(t, archived(t, Config{Head: a, DiskOnly: true}))
	require.NoError(t, err)
	assert.Empty(t, c.Head.Checkpoint())
	assert.Equal(t, a.Digest, c.Head.Digest, "the snapshot is the same one")
	require.NoError(t, os.WriteFile(filepath.Join(a.Checkpoint(), "disks", "x"), nil, 0o600))
	require.ErrorIs(t, Write(ctx, &strings.Builder{}, Config{Head: a}), ErrArchive)
	require.NoError(t, os.Remove(filepath.Join(a.Checkpoint(), "disks", "x")))
	sandbox := filepath.Join(a.Checkpoint(), "sandbox.json")
	require.NoError(t, os.Remove(sandbox))
	require.NoError(t, os.Symlink("/etc/passwd", sandbox))
	require.ErrorIs(t, Write(ctx, &strings.Builder{}, Config{Head: a}), sparse.ErrNotRegular)
}

func TestHostileCheckpoints(t *testing.T) {
	t.Parallel()
	a := full(t)
	good := archived(t, Config{Head: a, Name: "full", Plain: true})
	find := func(p []part, name string) int {
		for i := range p {
			if strings.HasSuffix(p[i].name, name) {
				return i
			}
		}
		require.Fail(t, "no member", name)
		return 0
	}
	rename := func(from, to string) func([]part) []part {
		return func(p []part) []part {
			i := find(p, from)
			p[i].name = strings.TrimSuffix(p[i].name, from) + to
			return p
		}
	}
	for name, c := range map[string]struct {
		want   error
		change func(p []part) []part
	}{
		"foreign file":   {ErrArchive, rename("/disks/2", "/seal")},
		"seal":           {ErrArchive, rename("/disks/2", "/machine/seal")},
		"origin":         {ErrArchive, rename("/disks/2", "/origin")},
		"above":          {ErrArchive, rename("/disks/2", "/disks/../../x")},
		"no number":      {ErrArchive, rename("/disks/2", "/disks/two")},
		"long number":    {ErrArchive, rename("/disks/2", "/disks/1234")},
		"deep":           {ErrArchive, rename("/disks/2", "/disks/2/3")},
		"of no snapshot": {ErrArchive, rename(a.Digest[7:]+"/disks/2", strings.Repeat("b", 64)+"/disks/2")},
		"no memory":      {ErrArchive, func(p []part) []part { i := find(p, "/memory"); return append(p[:i], p[i+1:]...) }},
		"changed state":  {ErrMismatch, func(p []part) []part { p[find(p, "/machine/machine")].content[0] ^= 1; return p }},
		"changed memory": {ErrMismatch, func(p []part) []part { p[find(p, "/memory")].content[0] ^= 1; return p }},
		"huge manifest": {ErrLimit, func(p []part) []part {
			m := &p[find(p, "/manifest.json")]
			m.content = make([]byte, 512)
			m.kind, m.stored, m.size, m.extents = typeSparse, 512, 1<<40, []sparse.Extent{{Length: 512}, {Offset: 1 << 40}}
			return p
		}},
		"another's": {ErrMismatch, func(p []part) []part { return relist(t, p, func(i *inventory) { i.Entries[0].OwnerSnapshot = nil }) }},
		"link":      {ErrArchive, func(p []part) []part { p[find(p, "/disks/2")].kind = '2'; return p }},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := unpack(t, implode(t, c.change(explode(t, good))))
			require.ErrorIs(t, err, c.want)
		})
	}
}
