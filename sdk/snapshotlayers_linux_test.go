package microsandbox

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	"github.com/gomsb/gomsb/snapshot"
	snapshotarchive "github.com/gomsb/gomsb/snapshot/archive"
)

// tampered is an archive of a snapshot in which the end of a layer is another.
func tampered(t *testing.T, h home, a *snapshot.Artefact) string {
	t.Helper()
	ctx := longContext(t)
	files, release, err := h.imageFiles(ctx, []*snapshot.Artefact{a})
	require.NoError(t, err)
	defer release()
	changed := 0
	for i, f := range files {
		if !isLayer(f.Name) {
			continue
		}
		b, err := os.ReadFile(f.Path)
		require.NoError(t, err)
		b[len(b)-1] ^= 1
		files[i].Path = filepath.Join(t.TempDir(), "layer")
		require.NoError(t, os.WriteFile(files[i].Path, b, 0o600))
		changed++
	}
	require.Positive(t, changed)
	out, err := os.Create(filepath.Join(t.TempDir(), "out.tar"))
	require.NoError(t, err)
	require.NoError(t, snapshotarchive.Write(ctx, out, snapshotarchive.Config{Head: a, Name: filepath.Base(a.Path), Images: files, Plain: true}))
	require.NoError(t, out.Close())
	return out.Name()
}

// The identity of a snapshot with recorded integrity vouches for the layers in an archive.
func TestSnapshotVouchesForLayers(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := longContext(t)
	stopped(t, h, "box")
	s, err := Snapshot.Create(ctx, SnapshotCreateOptions{Name: "sure", FromSandbox: "box", RecordIntegrity: true})
	require.NoError(t, err)
	recorded, ok := s.artefact.Descriptor.Extensions[layersExtension].(map[string]any)
	require.True(t, ok)
	layers, err := filepath.Glob(h.path("cache", "layers", "*.erofs"))
	require.NoError(t, err)
	require.Len(t, recorded, len(layers))
	plain, err := Snapshot.Create(ctx, SnapshotCreateOptions{Name: "plain", FromSandbox: "box"})
	require.NoError(t, err)
	assert.Empty(t, plain.artefact.Descriptor.Extensions)

	bad, unsure := tampered(t, h, s.artefact), tampered(t, h, plain.artefact)
	good := filepath.Join(t.TempDir(), "good.tar")
	require.NoError(t, Snapshot.Save(ctx, "sure", good, SnapshotSaveOptions{WithImage: true}))
	other := newHome(t)
	_, err = Snapshot.Load(ctx, bad, "")
	require.True(t, IsKind(err, ErrSnapshotIntegrity), "%v", err)
	assert.ErrorContains(t, err, "is not the one that snapshot "+s.Digest()+" was made on")
	for _, dir := range []string{"snapshots", filepath.Join("cache", "layers")} {
		left, err := filepath.Glob(other.path(dir, "*[^k]"))
		require.NoError(t, err)
		assert.Empty(t, left)
	}
	loaded, err := Snapshot.Load(ctx, good, "")
	require.NoError(t, err)
	assert.Equal(t, s.Digest(), loaded.Digest())
	_, err = Snapshot.Load(ctx, bad, t.TempDir())
	assert.True(t, IsKind(err, ErrSnapshotIntegrity), "also if the layer is there already: %v", err)
	newHome(t)
	_, err = Snapshot.Load(ctx, unsure, "")
	assert.NoError(t, err, "nothing is recorded")

	t.Setenv("MSB_HOME", h.root)
	b, err := os.ReadFile(layers[0])
	require.NoError(t, err)
	b[len(b)-1] ^= 1
	require.NoError(t, os.WriteFile(layers[0], b, 0o600))
	err = Snapshot.Save(ctx, "sure", filepath.Join(t.TempDir(), "x.tar"), SnapshotSaveOptions{WithImage: true})
	assert.True(t, IsKind(err, ErrSnapshotIntegrity), "%v", err)
}
