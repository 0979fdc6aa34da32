package runtime

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// socketDir is a short folder with the layout of a run directory.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rt")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestSocketLife(t *testing.T) {
	run := socketDir(t)
	path := filepath.Join(run, "sandboxes", "abc", "agent.sock")
	s, err := listenAt(path)
	require.NoError(t, err)
	link := filepath.Join(run, "agent", "abcdef.sock")
	require.NoError(t, s.publish(link, slog.New(slog.DiscardHandler)))
	c, err := net.Dial("unix", link)
	require.NoError(t, err, "the backlog takes it before anybody accepts")
	require.NoError(t, c.Close())
	require.NoError(t, s.remove())
	assert.NoDirExists(t, filepath.Dir(path))
	assert.DirExists(t, filepath.Join(run, "sandboxes"))
	_, err = os.Lstat(link)
	assert.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, s.remove(), "again is no error")
}

// What a killed runtime left is replaced, its link adopted.
func TestSocketReplacesADeadOne(t *testing.T) {
	run := socketDir(t)
	path, link := filepath.Join(run, "sandboxes", "abc", "agent.sock"), filepath.Join(run, "agent", "abcdef.sock")
	old, err := listenAt(path)
	require.NoError(t, err)
	require.NoError(t, old.publish(link, slog.New(slog.DiscardHandler)))
	require.NoError(t, old.listener.Close())
	s, err := listenAt(path)
	require.NoError(t, err)
	require.NoError(t, s.publish(link, slog.New(slog.DiscardHandler)))
	assert.Equal(t, link, s.link)
	c, err := net.Dial("unix", link)
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.NoError(t, s.remove())
}

func TestSocketLinkOfSomebodyElse(t *testing.T) {
	run := socketDir(t)
	link := filepath.Join(run, "agent", "abcdef.sock")
	require.NoError(t, os.MkdirAll(filepath.Dir(link), 0o700))
	require.NoError(t, os.WriteFile(link, []byte("theirs"), 0o600))
	s, err := listenAt(filepath.Join(run, "sandboxes", "abc", "agent.sock"))
	require.NoError(t, err)
	var log strings.Builder
	require.NoError(t, s.publish(link, slog.New(slog.NewTextHandler(&log, nil))))
	assert.Contains(t, log.String(), "the link to a socket is taken")
	require.NoError(t, s.remove())
	assert.FileExists(t, link)
	require.NoError(t, s.publish(s.path, nil), "a socket is not its own link")
}

func TestSocketRefuses(t *testing.T) {
	run := socketDir(t)
	dir := filepath.Join(run, "open")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.Chmod(dir, 0o777))
	s, err := listenAt(filepath.Join(dir, "agent.sock"))
	require.NoError(t, err)
	st, err := os.Stat(dir)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), st.Mode().Perm(), "nobody else may put a socket there")
	require.NoError(t, s.remove())

	file := filepath.Join(run, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = listenAt(filepath.Join(file, "agent.sock"))
	assert.Error(t, err)
	_, err = listenAt(file)
	assert.ErrorContains(t, err, "is not a socket: remove it")
	link := filepath.Join(run, "link")
	require.NoError(t, os.Symlink(dir, link))
	_, err = listenAt(filepath.Join(link, "agent.sock"))
	assert.ErrorContains(t, err, "is not a directory")
	_, err = listenAt(filepath.Join(run, strings.Repeat("x", 120), "agent.sock"))
	assert.ErrorContains(t, err, "socket: listen unix")
}
