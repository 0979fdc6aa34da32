package runtime

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"
)

func TestRoomFor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	assert.NoError(t, roomFor(dir, 1<<10))
	assert.NoError(t, roomFor(filepath.Join(dir, "missing"), 1<<60), "it is found out by writing")
	err := roomFor(dir, 1<<60)
	assert.ErrorIs(t, err, unix.ENOSPC)
	assert.ErrorContains(t, err, dir)
}
