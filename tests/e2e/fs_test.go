//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

func random(t *testing.T, seed byte, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	_, err := rand.NewChaCha8([32]byte{seed}).Read(b)
	require.NoError(t, err)
	return b
}

// folder makes a directory for one test in the shared sandbox.
func folder(t *testing.T, sb *msb.Sandbox) string {
	t.Helper()
	dir := "/tmp/" + filepath.Base(t.Name())
	require.NoError(t, sb.FS().Mkdir(within(t, patience), dir))
	t.Cleanup(func() { assert.NoError(t, sb.FS().RemoveDir(context.WithoutCancel(t.Context()), dir)) })
	return dir
}

func TestFSFiles(t *testing.T) {
	sb := shared(t)
	ctx, fs, dir := within(t, patience), sb.FS(), folder(t, sb)
	file := dir + "/file"
	require.NoError(t, fs.WriteString(ctx, file, "text\n"))
	text, err := fs.ReadString(ctx, file)
	require.NoError(t, err)
	assert.Equal(t, "text\n", text)
	st, err := fs.Stat(ctx, file)
	require.NoError(t, err)
	assert.EqualValues(t, 5, st.Size)
	assert.False(t, st.IsDir)
	assert.WithinDuration(t, time.Now(), st.ModTime, time.Hour, "the guest's clock is the host's")
	assert.Equal(t, "text", shell(t, sb, "cat "+file))

	require.NoError(t, fs.Copy(ctx, file, dir+"/copy"))
	require.NoError(t, fs.Rename(ctx, file, dir+"/renamed"))
	for name, want := range map[string]bool{"/copy": true, "/renamed": true, "/file": false} {
		got, err := fs.Exists(ctx, dir+name)
		require.NoError(t, err)
		assert.Equal(t, want, got, name)
	}
	entries, err := fs.List(ctx, dir)
	require.NoError(t, err)
	require.Len(t, entries, 2)
	for _, e := range entries {
		assert.Equal(t, msb.FsEntryKindFile, e.Kind)
		assert.EqualValues(t, 5, e.Size)
	}
	require.NoError(t, fs.Remove(ctx, dir+"/copy"))
	got, err := fs.Exists(ctx, dir+"/copy")
	require.NoError(t, err)
	assert.False(t, got)
}

func TestFSDirectories(t *testing.T) {
	sb := shared(t)
	ctx, fs, dir := within(t, patience), sb.FS(), folder(t, sb)
	require.NoError(t, fs.Mkdir(ctx, dir+"/a/b/c"))
	require.NoError(t, fs.Mkdir(ctx, dir+"/a/b/c"), "again")
	st, err := fs.Stat(ctx, dir+"/a/b/c")
	require.NoError(t, err)
	assert.True(t, st.IsDir)
	require.NoError(t, fs.WriteString(ctx, dir+"/a/b/file", "x"))
	require.NoError(t, fs.RemoveDir(ctx, dir+"/a"))
	got, err := fs.Exists(ctx, dir+"/a")
	require.NoError(t, err)
	assert.False(t, got)
}

func TestFSErrors(t *testing.T) {
	sb := shared(t)
	ctx, fs := within(t, patience), sb.FS()
	_, err := fs.Read(ctx, "/no/such/file")
	assert.True(t, msb.IsKind(err, msb.ErrFilesystem) || msb.IsKind(err, msb.ErrPathNotFound), "%v", err)
	assert.ErrorContains(t, err, "No such file")
	_, err = fs.List(ctx, "/etc/passwd")
	assert.Error(t, err)
	assert.Error(t, fs.Remove(ctx, "/etc"), "a directory")
	assert.Error(t, fs.WriteString(ctx, "/proc/version", "x"))
	_, err = fs.Read(ctx, "/etc")
	assert.Error(t, err, "a directory")
}

func TestFSStreams(t *testing.T) {
	sb := shared(t)
	ctx, fs, dir := within(t, 2*patience), sb.FS(), folder(t, sb)
	content := random(t, 3, 3<<20)
	require.NoError(t, fs.Write(ctx, dir+"/big", content))
	got, err := fs.Read(ctx, dir+"/big")
	require.NoError(t, err)
	assert.Equal(t, sha256.Sum256(content), sha256.Sum256(got))

	w, err := fs.WriteStream(ctx, dir+"/parts")
	require.NoError(t, err)
	for _, part := range []string{"one ", "two ", "three"} {
		_, err := io.WriteString(w, part)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close(ctx))

	r, err := fs.ReadStream(ctx, dir+"/parts")
	require.NoError(t, err)
	var all []byte
	for {
		chunk, err := r.Recv(ctx)
		require.NoError(t, err)
		if chunk == nil {
			break
		}
		all = append(all, chunk...)
	}
	chunk, err := r.Recv(ctx)
	assert.NoError(t, err)
	assert.Nil(t, chunk)
	require.NoError(t, r.Close())
	assert.Equal(t, "one two three", string(all))

	r, err = fs.ReadStream(ctx, dir+"/big")
	require.NoError(t, err)
	var buf bytes.Buffer
	n, err := r.WriteTo(&buf)
	require.NoError(t, err)
	assert.EqualValues(t, len(content), n)
	assert.NoError(t, r.Close())

	require.NoError(t, fs.Write(ctx, dir+"/long", make([]byte, 8<<20)))
	r, err = fs.ReadStream(ctx, dir+"/long")
	require.NoError(t, err)
	cancelled, cancel := context.WithCancel(ctx)
	timed(t, 5*time.Second, func(context.Context) {
		_, err = r.CopyTo(cancelled, writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }))
		assert.True(t, msb.IsKind(err, msb.ErrCancelled), "%v", err)
	})
	_ = r.Close()
	assert.Equal(t, "goes on", shell(t, sb, "echo goes on"))
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestFSCopyTrees(t *testing.T) {
	sb := shared(t)
	ctx, fs, dir := within(t, patience), sb.FS(), folder(t, sb)
	host := t.TempDir()
	src := filepath.Join(host, "src")
	require.NoError(t, os.MkdirAll(filepath.Join(src, "sub"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(src, "run.sh"), []byte("#!/bin/sh\necho ran\n"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(src, "sub", "data"), random(t, 4, 100_000), 0o640))
	require.NoError(t, os.Symlink("data", filepath.Join(src, "sub", "link")))
	require.NoError(t, fs.CopyFromHost(ctx, src, dir+"/there"))
	assert.Equal(t, "ran", shell(t, sb, dir+"/there/run.sh"))
	assert.Equal(t, "640 data", shell(t, sb, "cd "+dir+"/there/sub; echo $(stat -c %a data) $(readlink link)"))
	back := filepath.Join(host, "back")
	require.NoError(t, fs.CopyToHost(ctx, dir+"/there", back))
	for _, name := range []string{"run.sh", "sub/data"} {
		want, err := os.ReadFile(filepath.Join(src, name))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(back, name))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(want, got), name)
	}
	target, err := os.Readlink(filepath.Join(back, "sub", "link"))
	require.NoError(t, err)
	assert.Equal(t, "data", target)
}
