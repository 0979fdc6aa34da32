//go:build linux && fuse

package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What needs root is run by hack/posix.

// open is a directory that all users reach.
func open(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// The host's own file system passes all checks.
func TestOnTheHost(t *testing.T) {
	dir := open(t)
	var out bytes.Buffer
	failed, err := runAll(&out, dir, options{})
	require.NoError(t, err)
	assert.Zero(t, failed, out.String())
	assert.Greater(t, bytes.Count(out.Bytes(), []byte("\nok ")), 550)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
	out.Reset()
	failed, err = runAll(&out, dir, options{only: regexp.MustCompile("^path/"), brief: true})
	require.NoError(t, err)
	assert.Zero(t, failed)
	assert.Equal(t, "18 checks, 0 failed\n", out.String())
	failed, err = runAll(io.Discard, dir, options{only: regexp.MustCompile("^path/"), keep: true})
	require.NoError(t, err)
	assert.Zero(t, failed)
	left, err = os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, left, 18)
}

// Scripts notice what is wrong.
func TestScriptsFail(t *testing.T) {
	dir := open(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for i, c := range []struct{ script, want string }{
		{"create f 644\nstat f mode=600", "stat f mode=600: mode is 644"},
		{"create f 644\nstat f type=dir", "type is file"},
		{"create f 644\nlink f g\ncreate h 644\nstat h same=f", "is not the same file as f"},
		{"rmdir none", "rmdir none: no such file or directory"},
		{"mkdir d 755 EEXIST", "succeeded instead of EEXIST"},
		{"rmdir none EPERM|EACCES", "no such file or directory instead of EPERM or EACCES"},
		{"create f 600\n1000 open f r", "permission denied"},
		{"create f 644\n1000 open f r EACCES", "succeeded instead of EACCES"},
		{"create f 640\nchown f 1 2000\n1000:1000,3000 open f r", "permission denied"},
		{"create f 644\nwrite f text\nread f tex", `"text"`},
		{"create f 644\nmark f\ntick\nwrite f x\nkept f mtime", "mtime was"},
		{"create f 644\nmark f\ntick\nchanged f ctime", "ctime was"},
		{"symlink a l\nreadlink l b", `"a"`},
		{"create f 644\nmissing f", "f is there"},
		{"create f 644\nstat f extra word=1", ""},
		{"frobnicate f", "no such call"},
		{"mkdir d", "1 arguments"},
		{"x1000 mkdir d 755", "no such call"},
	} {
		sub := filepath.Join(dir, string(rune('a'+i)))
		require.NoError(t, os.Mkdir(sub, 0o777))
		require.NoError(t, os.Chmod(sub, 0o777))
		s := script{dir: sub}
		if c.want == "" {
			assert.Panics(t, func() { _ = s.run(c.script) }, c.script)
			continue
		}
		assert.ErrorContains(t, s.run(c.script), c.want, c.script)
	}
}
