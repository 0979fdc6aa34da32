package launch

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPausedMark(t *testing.T) {
	t.Parallel()
	agent := filepath.Join(t.TempDir(), "agent.sock")
	assert.Zero(t, PausedBy(agent))
	require.NoError(t, UnmarkPaused(agent))
	for _, pid := range []int{42, 43} {
		require.NoError(t, MarkPaused(agent, pid))
		assert.Equal(t, pid, PausedBy(agent))
	}
	require.NoError(t, UnmarkPaused(agent))
	assert.Zero(t, PausedBy(agent))
	require.NoError(t, os.Symlink("elsewhere", pausedLink(agent)))
	assert.Zero(t, PausedBy(agent))
	require.NoError(t, os.Remove(pausedLink(agent)))
	require.NoError(t, os.WriteFile(pausedLink(agent), []byte("42"), 0o600))
	assert.Zero(t, PausedBy(agent))
	assert.Error(t, MarkPaused(filepath.Join(agent, "none"), 1))
}
