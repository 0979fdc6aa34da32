package staging

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDirs(t *testing.T) {
	t.Parallel()
	parent := filepath.Join(t.TempDir(), "missing")
	target := filepath.Join(parent, "one")
	ours := func(path string) bool {
		_, err := os.Lstat(filepath.Join(path, "foreign"))
		return err != nil
	}
	live, err := Make(target, ".part", ours)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(live.Path, "file"), nil, 0o600))
	for _, name := range []string{".one.1.part/file", ".one.2.part/foreign", ".one.3.other", ".two.1.part", "one.1.part"} {
		require.NoError(t, os.MkdirAll(filepath.Join(parent, name), 0o700)) // nobody has them locked
	}
	require.NoError(t, os.WriteFile(filepath.Join(parent, ".one.4.part"), nil, 0o600))

	second, err := Make(target, ".part", ours)
	require.NoError(t, err)
	assert.NotEqual(t, live.Path, second.Path)
	assert.FileExists(t, filepath.Join(live.Path, "file"), "somebody works there")
	assert.NoDirExists(t, filepath.Join(parent, ".one.1.part"))
	for _, name := range []string{".one.2.part", ".one.3.other", ".two.1.part", "one.1.part"} {
		assert.DirExists(t, filepath.Join(parent, name))
	}
	assert.FileExists(t, filepath.Join(parent, ".one.4.part"))
	require.NoError(t, live.Remove())
	require.NoError(t, second.Remove())
	assert.NoDirExists(t, live.Path)
	assert.NoDirExists(t, second.Path)
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	target := filepath.Join(t.TempDir(), "one")
	ours := func(string) bool { return true }
	const makers = 8
	errs := make(chan error)
	for range makers {
		go func() {
			for range 20 {
				d, err := Make(target, ".part", ours)
				if err == nil {
					if _, e := os.Lstat(d.Path); e != nil {
						err = e // swept in spite of its lock
					} else {
						err = d.Remove()
					}
				}
				if err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range makers {
		assert.NoError(t, <-errs)
	}
	left, err := os.ReadDir(filepath.Dir(target))
	require.NoError(t, err)
	assert.Empty(t, left)
}
