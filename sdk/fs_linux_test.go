package microsandbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/agent/reap"
	"github.com/gomsb/gomsb/guestagent/agent/serve"
	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// guestFiles are the files of a guest whose agent is the real one and whose root is this
// machine's: tests stay in the directory that is returned too.
func guestFiles(t *testing.T) (*SandboxFSOps, string) {
	t.Helper()
	host, guest := net.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := guest.Write(proto.SlotRange(0).Append(nil))
		if err == nil {
			s := serve.New(serve.Config{Stream: guest, Reaper: reap.New(), SetClock: func(time.Time) error { return nil }})
			if err = s.Ready(proto.Ready{BootTimeNs: 1, InitTimeNs: 1, ReadyTimeNs: 1, AgentVersion: "test"}); err == nil {
				err = s.Run()
			}
		}
		done <- err
	}()
	c, err := client.New(testContext(t), host, client.Options{})
	require.NoError(t, err)
	sb := &Sandbox{name: "test", client: c}
	t.Cleanup(func() {
		assert.NoError(t, sb.Close())
		assert.ErrorIs(t, <-done, io.EOF)
	})
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	return sb.FS(), dir
}

func TestFiles(t *testing.T) {
	f, dir := guestFiles(t)
	ctx := testContext(t)
	p := func(name string) string { return filepath.Join(dir, name) }

	require.NoError(t, f.WriteString(ctx, p("a"), "hello"))
	text, err := f.ReadString(ctx, p("a"))
	require.NoError(t, err)
	assert.Equal(t, "hello", text)
	require.NoError(t, f.Write(ctx, p("a"), []byte("hi")), "truncates")
	st, err := f.Stat(ctx, p("a"))
	require.NoError(t, err)
	assert.Equal(t, int64(2), st.Size)
	assert.False(t, st.IsDir)
	assert.WithinDuration(t, time.Now(), st.ModTime, time.Minute)

	require.NoError(t, f.Mkdir(ctx, p("d/e/f")))
	st, err = f.Stat(ctx, p("d/e"))
	require.NoError(t, err)
	assert.True(t, st.IsDir)
	require.NoError(t, f.Copy(ctx, p("a"), p("d/b")))
	require.NoError(t, f.Rename(ctx, p("a"), p("d/c")))
	require.NoError(t, os.Symlink("c", p("d/link")))
	entries, err := f.List(ctx, p("d"))
	require.NoError(t, err)
	kinds := map[string]FsEntryKind{}
	for _, e := range entries {
		kinds[filepath.Base(e.Path)] = e.Kind
	}
	assert.Equal(t, map[string]FsEntryKind{"b": FsEntryKindFile, "c": FsEntryKindFile, "e": FsEntryKindDirectory, "link": FsEntryKindSymlink}, kinds)

	for name, want := range map[string]bool{"a": false, "d/c": true, "d/link": true} {
		exists, err := f.Exists(ctx, p(name))
		require.NoError(t, err)
		assert.Equal(t, want, exists, name)
	}
	_, err = f.Exists(ctx, p("d/c/below-a-file"))
	assert.True(t, IsKind(err, ErrFilesystem), "not there is one thing, impossible another: %v", err)
	_, err = f.Read(ctx, p("a"))
	assert.True(t, IsKind(err, ErrPathNotFound))
	assert.ErrorContains(t, err, "sandbox fs error: ")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, f.Remove(ctx, p("d/link")))
	assert.Error(t, f.Remove(ctx, p("d")))
	require.NoError(t, f.RemoveDir(ctx, p("d")))
	exists, err := f.Exists(ctx, p("d"))
	require.NoError(t, err)
	assert.False(t, exists)
}

func TestFileStreams(t *testing.T) {
	f, dir := guestFiles(t)
	ctx := testContext(t)
	file := filepath.Join(dir, "big")
	content := make([]byte, 9<<20)
	_, err := rand.Read(content)
	require.NoError(t, err)

	w, err := f.WriteStream(ctx, file)
	require.NoError(t, err)
	for _, part := range [][]byte{content[:1], content[1 : 5<<20], content[5<<20:]} {
		n, err := w.Write(part)
		require.NoError(t, err)
		assert.Equal(t, len(part), n)
	}
	require.NoError(t, w.Close(ctx))
	got, err := f.Read(ctx, file)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(content, got))

	r, err := f.ReadStream(ctx, file)
	require.NoError(t, err)
	first, err := r.Recv(ctx)
	require.NoError(t, err)
	assert.NotEmpty(t, first)
	rest := bytes.NewBuffer(bytes.Clone(first))
	n, err := r.WriteTo(rest)
	require.NoError(t, err)
	assert.Equal(t, len(content), int(n)+len(first))
	assert.True(t, bytes.Equal(content, rest.Bytes()))
	end, err := r.Recv(ctx)
	require.NoError(t, err)
	assert.Nil(t, end)
	require.NoError(t, r.Close())

	r, err = f.ReadStream(ctx, file)
	require.NoError(t, err)
	short, cancel := context.WithCancel(ctx)
	_, err = r.CopyTo(short, writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }))
	assert.True(t, IsKind(err, ErrCancelled), "%v", err)
	require.NoError(t, r.Close())
	_, err = f.ReadStream(ctx, file+"none")
	assert.True(t, IsKind(err, ErrPathNotFound))
	_, err = f.WriteStream(ctx, filepath.Join(dir, "none", "x"))
	assert.Error(t, err)
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(p []byte) (int, error) { return w(p) }

// filesBelow makes a small tree below dir and returns what describeTree says of it.
func filesBelow(t *testing.T, dir string) map[string]string {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub", "empty"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "run.sh"), []byte("#!/bin/sh\n"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sub", "secret"), []byte("s"), 0o600))
	require.NoError(t, os.Symlink("../run.sh", filepath.Join(dir, "sub", "link")))
	require.NoError(t, os.Symlink("/nowhere", filepath.Join(dir, "dangling")))
	return describeTree(t, dir)
}

func describeTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		rel, err := filepath.Rel(dir, p)
		require.NoError(t, err)
		what := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(p)
			require.NoError(t, err)
			what += " " + string(b)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			require.NoError(t, err)
			what += " " + target
		}
		all[rel] = what
		return nil
	}))
	return all
}

func TestCopyTrees(t *testing.T) {
	f, guest := guestFiles(t)
	ctx := testContext(t)
	host := t.TempDir()
	want := filesBelow(t, filepath.Join(host, "in"))
	require.NoError(t, f.CopyFromHost(ctx, filepath.Join(host, "in"), filepath.Join(guest, "new")))
	assert.Equal(t, want, describeTree(t, filepath.Join(guest, "new")))
	require.NoError(t, f.CopyFromHost(ctx, filepath.Join(host, "in"), guest), "into a directory that exists")
	assert.Equal(t, want, describeTree(t, filepath.Join(guest, "in")))
	require.NoError(t, f.CopyToHost(ctx, filepath.Join(guest, "new"), filepath.Join(host, "out")))
	assert.Equal(t, want, describeTree(t, filepath.Join(host, "out")))
	require.NoError(t, f.CopyToHost(ctx, filepath.Join(guest, "in"), filepath.Join(host, "out")))
	assert.Equal(t, want, describeTree(t, filepath.Join(host, "out", "in")))
	require.NoError(t, f.CopyToHost(ctx, filepath.Join(guest, "in"), filepath.Join(host, "out")), "again, over itself")
	require.NoError(t, f.CopyToHost(ctx, filepath.Join(guest, "in", "run.sh"), filepath.Join(host, "one")))
	st, err := os.Stat(filepath.Join(host, "one"))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o755), st.Mode())

	err = f.CopyToHost(ctx, filepath.Join(guest, "none"), host)
	assert.True(t, IsKind(err, ErrPathNotFound), "%v", err)
	err = f.CopyFromHost(ctx, filepath.Join(host, "none"), guest)
	assert.True(t, IsKind(err, ErrIO), "%v", err)
	require.NoError(t, os.MkdirAll(filepath.Join(host, "way", "run.sh"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(host, "file"), nil, 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(guest, "x"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(guest, "x", "run.sh"), nil, 0o600))
	require.NoError(t, os.Rename(filepath.Join(host, "way"), filepath.Join(host, "x")))
	err = f.CopyToHost(ctx, filepath.Join(guest, "x"), host)
	assert.True(t, IsKind(err, ErrInvalidArgument), "a directory does not give way to a file: %v", err)
}

// TestHostileNames: what a guest calls its files must not lead anywhere but into the
// target.
func TestHostileNames(t *testing.T) {
	for _, name := range []string{"..", ".", "/", "../../escape", "/etc/escape"} {
		host, guest := net.Pipe()
		go lyingGuest(guest, name)
		c, err := client.New(testContext(t), host, client.Options{})
		require.NoError(t, err)
		sb := &Sandbox{name: "test", client: c}
		dir := t.TempDir()
		target := filepath.Join(dir, "target")
		err = sb.FS().CopyToHost(testContext(t), "/dir", target)
		assert.Error(t, err, name)
		entries, readErr := os.ReadDir(dir)
		require.NoError(t, readErr)
		assert.Len(t, entries, 1, "%s: nothing beside the target", name)
		require.NoError(t, sb.Close())
	}
}

// lyingGuest says that everything is a directory which holds an entry of that name.
func lyingGuest(conn net.Conn, name string) {
	_, _ = conn.Write(proto.SlotRange(0).Append(nil))
	out, in := proto.NewWriter(conn), proto.NewReader(conn)
	_ = out.WriteMessage(0, proto.TypeReady, proto.Ready{BootTimeNs: 1, InitTimeNs: 1, ReadyTimeNs: 1})
	for {
		f, err := in.ReadFrame()
		if err != nil {
			return
		}
		m, err := proto.ParseMessage(f)
		if err != nil {
			return
		}
		var req proto.FSRequest
		if err := m.Decode(&req); err != nil {
			return
		}
		result := &proto.FSResult{Kind: proto.ResultStat, Entry: proto.FSEntry{Path: "/dir", Kind: proto.EntryDir, Mode: 0o755}}
		if _, ok := req.Op.(proto.FSList); ok {
			result = &proto.FSResult{Kind: proto.ResultList, Entries: []proto.FSEntry{{Path: name, Kind: proto.EntryDir, Mode: 0o755}}}
		}
		_ = out.WriteMessage(m.ID, proto.TypeFSResponse, proto.FSResponse{OK: true, Data: result})
	}
}

func TestEntryKinds(t *testing.T) {
	assert.Equal(t, FsEntryKindOther, entryKind(client.Entry{Kind: "made up"}))
	assert.NoError(t, agentError(nil))
	assert.True(t, IsKind(agentError(&fs.PathError{Op: "open", Path: "x", Err: errors.New("y")}), ErrIO))
}
