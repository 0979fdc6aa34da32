package cache

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/manifest"
)

// A download that filled the disk gives the room back; others are there for the next pull.
func TestDownloadThatFillsTheDisk(t *testing.T) {
	t.Parallel()
	c := open(t)
	layers := []oci.Layer{{BlobDigest: digest.FromString("full")}, {BlobDigest: digest.FromString("interrupted")}}
	r := &remoteOrigin{Cache: c, documents: &manifest.Image{Layers: layers}, resumed: make([]bool, 2)}
	for _, l := range layers {
		require.NoError(t, os.WriteFile(r.partPath(l), []byte("part"), 0o600))
	}
	assert.False(t, r.finish(0, &os.PathError{Op: "write", Err: syscall.ENOSPC}))
	assert.False(t, r.finish(1, context.Canceled))
	assert.False(t, r.finish(1, syscall.EIO))
	assert.NoFileExists(t, r.partPath(layers[0]))
	assert.FileExists(t, r.partPath(layers[1]))
}

// Who needs room drops what interrupted downloads left, not what is under way.
func TestDropInterrupted(t *testing.T) {
	t.Parallel()
	c := open(t)
	part := func(name string) string { return filepath.Join(c.tmp(), name+partSuffix) }
	for _, name := range []string{"old", "busy"} {
		require.NoError(t, os.WriteFile(part(name), make([]byte, 8192), 0o600))
	}
	other := filepath.Join(c.tmp(), "other.new")
	require.NoError(t, os.WriteFile(other, nil, 0o600))
	held, err := acquire(t.Context(), filepath.Join(c.tmp(), "busy"+downloadSuffix))
	require.NoError(t, err)
	bytes, err := c.DropInterrupted()
	require.NoError(t, err)
	assert.EqualValues(t, 8192, bytes)
	assert.NoFileExists(t, part("old"))
	assert.FileExists(t, part("busy"))
	assert.FileExists(t, other)
	held.release()
	bytes, err = c.DropInterrupted()
	require.NoError(t, err)
	assert.EqualValues(t, 8192, bytes)
}
