//go:build linux

package passthrough

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// script is a sequence of requests in the form that FuzzRequest reads: operation, node,
// length of the body (2 bytes), room for the answer in units of 16 bytes, body.
func script(parts ...[]byte) (b []byte) { return bytes.Join(parts, nil) }

func request(op opcode, node byte, body ...[]byte) []byte {
	all := bytes.Join(body, nil)
	return append([]byte{byte(op), node, byte(len(all)), byte(len(all) >> 8), 20}, all...)
}

// FuzzRequest sends a server requests of any kind. Each must be answered soon with a
// well-formed answer, and nothing outside the share may be read or change.
func FuzzRequest(f *testing.F) {
	init := request(opInit, 0, words(7, 41, 131072, allFlags))
	f.Add(script(init, request(opLookup, 1, text("f")), request(opOpen, 2, words(unix.O_RDWR, 0)),
		request(opWrite, 2, longs(1, 0), words(3, 0), longs(0, 0), []byte("abc")), request(opRead, 2, longs(1, 0), words(10, 0), longs(0, 0)),
		request(opRelease, 2, longs(1, 0, 0)), request(opForget, 2, longs(1))))
	f.Add(script(init, request(opMkdir, 1, words(0o755, 0), text("d")), request(opCreate, 2, words(2, 0o644, 0, 0), text("x")),
		request(opRename2, 2, longs(1), words(0, 0), text("x"), text("y")), request(opLink, 1, longs(3), text("z")), request(opUnlink, 1, text("y")),
		request(opSetattr, 3, validBody(opSetattr, 0)), request(opFallocate, 3, longs(1, 0, 4096, 0)), request(opLseek, 3, longs(1, 0), words(3, 0))))
	f.Add(script(init, request(opOpendir, 1, words(0, 0)), request(opReaddirplus, 1, longs(1, 0), words(300, 0), longs(0, 0)),
		request(opReaddir, 1, longs(1, 1<<40), words(200, 0), longs(0, 0)), request(opReleasedir, 1, longs(1, 0, 0)), request(opBatchForget, 0, words(2, 0), longs(2, 1, 3, 1))))
	f.Add(script(init, request(opLookup, 1, text("out")), request(opLookup, 2, text("secret")), request(opLookup, 1, text("../secret")),
		request(opSymlink, 1, text("l"), text("/etc")), request(opReadlink, 2), request(opLookup, 1, text("up")), request(opOpen, 3, words(0, 0))))
	f.Add(script(init, request(opSetxattr, 1, words(1, 0), text("user.a"), []byte("v")), request(opGetxattr, 1, words(9, 0), text("user.a")),
		request(opListxattr, 1, words(99, 0)), request(opRemovexattr, 1, text("user.a")), request(opStatfs, 1), request(opStatx, 1, words(0, 0), longs(0, 0)),
		request(opTmpfile, 1, words(2, 0o600, 0, 0), text("/")), request(opCopyFileRange, 2, longs(1, 0, 2, 1, 100, 10, 0))))
	f.Add(script(init, request(opLookup, 1, text("f")), request(opOpen, 2, words(2, 0)), request(opSetlkw, 2, longs(1, 1, 0, 9), words(1, 0, 0, 0)),
		request(opSetlkw, 2, longs(1, 2, 0, 9), words(1, 0, 0, 0)), request(opInterrupt, 0, longs(4)), request(opFlush, 2, longs(1, 0, 1))))
	f.Fuzz(func(t *testing.T, b []byte) {
		top := memoryDir(t)
		dir := filepath.Join(top, "share")
		require.NoError(t, os.Mkdir(dir, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(top, "secret"), []byte("OUTSIDE"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "f"), []byte("inside"), 0o644))
		require.NoError(t, os.Symlink("../secret", filepath.Join(dir, "out")))
		require.NoError(t, os.Symlink("..", filepath.Join(dir, "up")))
		cfg := Config{Root: dir, Nodes: 50, Handles: 10, Descriptors: 2, HostLocks: true, Quota: 1 << 30}
		if len(b) > 0 {
			cfg.Stat = []StatMode{StatStrict, StatRelaxed, StatOff}[b[0]%3]
		}
		s, err := New(cfg)
		require.NoError(t, err)
		g := &guest{t: t, s: s, impatient: true}
		for left := 60; len(b) >= 5 && left > 0; left-- {
			op, node, n, room := opcode(b[0]), uint64(b[1]), int(b[2])|int(b[3])<<8, 16*int(b[4])
			b = b[5:]
			n = min(n, len(b))
			m := g.message(op, node, b[:n])
			b = b[n:]
			start := time.Now()
			length, again, out := g.try(m, room)
			require.Less(t, time.Since(start), 10*time.Second)
			require.NotContains(t, string(out), "OUTSIDE")
			if !again && length > 0 {
				require.EqualValues(t, length, le.Uint32(out))
				require.Equal(t, le.Uint64(m[8:]), le.Uint64(out[8:]))
				require.LessOrEqual(t, int32(0), -int32(le.Uint32(out[4:])))
			}
		}
		if state, err := s.SaveState(); err == nil {
			require.NoError(t, s.RestoreState(state))
		}
		require.NoError(t, s.Close())
		list, err := os.ReadDir(top)
		require.NoError(t, err)
		require.Len(t, list, 2)
		secret, err := os.ReadFile(filepath.Join(top, "secret"))
		require.NoError(t, err)
		require.Equal(t, "OUTSIDE", string(secret))
	})
}

// memoryDir is a fresh directory, on a file system in memory if one is there that keeps
// extended attributes: on a disk, removing the files of one try takes far longer than the
// try.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "passthrough")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	if unix.Setxattr(dir, "user.x", nil, 0) != nil {
		return t.TempDir()
	}
	return dir
}

// FuzzState restores any state. What is taken must be as bounded as a session of its own.
func FuzzState(f *testing.F) {
	s, err := New(Config{Root: f.TempDir()})
	require.NoError(f, err)
	g := &guest{t: f, s: s, dir: s.cfg.Root}
	g.begin()
	d := g.mkdir(rootID, "d", 0o755)
	g.create(d.node, "f", 0o644)
	g.opendir(rootID)
	good, err := s.SaveState()
	require.NoError(f, err)
	f.Add(good)
	f.Add(good[:60])
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := s.RestoreState(b); err != nil {
			require.ErrorIs(t, err, ErrState)
			return
		}
		g := &guest{t: t, s: s}
		for node := range uint64(8) {
			_, _ = g.call(opGetattr, node, words(0, 0), longs(0))
			_, _ = g.call(opLookup, node, text("f"))
			g.forget(node, 1)
		}
		again, err := s.SaveState()
		require.NoError(t, err)
		require.NoError(t, s.RestoreState(again))
	})
}
