package snapshot

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func nothing() error { return nil }

// staged puts a snapshot into a place.
func staged(t *testing.T, s *Staging, c Config) *Artefact {
	t.Helper()
	c.Dir = t.TempDir()
	a, err := Create(ctx, c)
	require.NoError(t, err)
	path := filepath.Join(s.Path, c.Name)
	require.NoError(t, os.Rename(a.Path, path))
	return mustOpen(t, path)
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestInstall(t *testing.T) {
	c := config(t)
	dir := filepath.Join(t.TempDir(), "in")
	install := func(name, suggested string, ready func() error) (*Artefact, error) {
		s, err := NewStaging(ctx, dir)
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		c.Name = name
		head := staged(t, s, c)
		c.Name, c.SourceSandbox = "parent", "other"
		parent := staged(t, s, c)
		c.SourceSandbox = "box"
		return s.Install(ctx, head, suggested, []*Artefact{parent}, ready)
	}
	failure := errors.New("not now")
	_, err := install("a", "base", func() error { return failure })
	require.ErrorIs(t, err, failure)
	require.Empty(t, names(t, dir))

	a, err := install("a", "base", nothing)
	require.NoError(t, err)
	require.Equal(t, "base", filepath.Base(a.Path))
	require.Len(t, names(t, dir), 2, "its parent too")
	_, err = install("a", "base", nothing)
	require.ErrorIs(t, err, ErrExists)
	_, err = install("a", "../out", nothing)
	require.NoError(t, err, "not found under another name than these two")
	_, err = install("a", "new", nothing)
	require.ErrorIs(t, err, ErrExists, "it is there by its identity")

	c.Labels = map[string]string{"k": "w"}
	b, err := install("b", "base", nothing)
	require.NoError(t, err)
	require.Equal(t, strings.TrimPrefix(b.Digest, "sha256:"), filepath.Base(b.Path), "the name is taken")
	require.Equal(t, b.Digest, mustOpen(t, b.Path).Digest)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "x"), 0o700))
	c.Labels = map[string]string{"k": "x"}
	x, err := install("c", "x", nothing)
	require.NoError(t, err)
	require.NotEqual(t, "x", filepath.Base(x.Path))
}

func mustOpen(t *testing.T, path string) *Artefact {
	t.Helper()
	a, err := Open(path)
	require.NoError(t, err)
	return a
}

// TestStagingOfTheDead finds a place whose process was killed removed, and that of the
// living left alone.
func TestStagingOfTheDead(t *testing.T) {
	if dir := os.Getenv("SNAPSHOT_TEST_STAGING"); dir != "" {
		s, err := NewStaging(ctx, dir)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(s.Path, "half"), nil, 0o600))
		os.Exit(3) // without Close
	}
	dir := t.TempDir()
	living, err := NewStaging(ctx, dir)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^TestStagingOfTheDead$")
	cmd.Env = append(os.Environ(), "SNAPSHOT_TEST_STAGING="+dir)
	require.Error(t, cmd.Run())
	require.Equal(t, 3, cmd.ProcessState.ExitCode())
	require.Len(t, names(t, dir), 2)
	next, err := NewStaging(ctx, dir)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{filepath.Base(living.Path), filepath.Base(next.Path)}, names(t, dir))
	list, err := List(dir, func(path string, err error) { t.Error(path, err) })
	require.NoError(t, err)
	require.Empty(t, list)
	require.NoError(t, living.Close())
	require.NoError(t, next.Close())
	require.Empty(t, names(t, dir))
}

func TestStagingCancelled(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lock(ctx, dir)
	require.NoError(t, err)
	defer unlock()
	over, cancel := context.WithCancel(ctx)
	cancel()
	_, err = NewStaging(over, dir)
	require.ErrorIs(t, err, context.Canceled)
}
