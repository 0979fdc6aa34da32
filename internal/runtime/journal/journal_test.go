package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// golden is the exec.log that the official program wrote, as observed.
const golden = `{"t":"2026-11-24T00:02:10.719Z","s":"system","d":"--- sandbox started ---\n"}
{"t":"2026-11-24T00:02:15.999Z","s":"stdout","d":"hello\n","id":1}
{"t":"2026-11-24T00:02:16.078Z","s":"stderr","d":"err\n","id":2}
{"t":"2026-11-24T00:02:16.300Z","s":"stdout","d":"abc\n","id":7}
{"t":"2026-11-24T00:02:16.369Z","s":"output","d":"/dev/pts/0\r\n","id":8}
{"t":"2026-11-24T00:02:16.376Z","s":"output","d":"linux\r\n","id":8}
`

func TestExecLogGolden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "exec.log")
	l, err := OpenExecLog(path)
	require.NoError(t, err)
	var now time.Time
	l.now = func() time.Time { return now }
	for line := range strings.SplitSeq(strings.TrimSpace(golden), "\n") {
		var e struct {
			T  time.Time
			S  Source
			D  string
			ID uint64
		}
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		now = e.T
		require.NoError(t, l.Write(e.S, e.ID, []byte(e.D)))
	}
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, golden, string(b))
	assert.ErrorIs(t, l.System(Ended), os.ErrClosed)
}

func FuzzAppendString(f *testing.F) {
	f.Add([]byte("plain"))
	f.Add([]byte("\x00\x1f\"\\\b\f\n\r\t\x7f<>&\u2028é\xff\xc3"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := appendString(nil, data)
		var s string
		require.NoError(t, json.Unmarshal(b, &s), "%q", b)
		// One replacement for each bad byte, as the decoder counts them.
		assert.Equal(t, string([]rune(string(data))), s)
	})
}

func TestExecLogDoesNotAllocate(t *testing.T) {
	l, err := OpenExecLog(filepath.Join(t.TempDir(), "exec.log"))
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	data := bytes.Repeat([]byte("output of a command\n"), 100)
	assert.Zero(t, testing.AllocsPerRun(100, func() { _ = l.Write(Stdout, 1, data) }))
}

func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "runtime.log")
	var reopened int
	f, err := Open(path, func(*os.File) error { reopened++; return nil })
	require.NoError(t, err)
	f.limit = 100
	for i := range 60 {
		n, err := fmt.Fprintf(f, "line %03d and more\n", i)
		require.NoError(t, err)
		require.Equal(t, 18, n)
	}
	require.NoError(t, f.Fd(func(cur *os.File) error { assert.Equal(t, path, cur.Name()); return nil }))
	require.NoError(t, f.Close())
	assert.Equal(t, 11, reopened)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(string(b), "line 059 and more\n"))
	for n := 1; n <= 4; n++ {
		b, err := os.ReadFile(fmt.Sprint(path, ".", n))
		require.NoError(t, err)
		assert.Len(t, b, 90)
	}
	_, err = os.Stat(path + ".5")
	assert.ErrorIs(t, err, os.ErrNotExist)
	// What is there counts at the next start.
	f, err = Open(path, nil)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	assert.Equal(t, int64(len(b)), f.size)
	// A line longer than a file still gets written, alone.
	f.limit = 10
	_, err = f.Write([]byte("longer than ten bytes\n"))
	require.NoError(t, err)
	assert.ErrorIs(t, (&File{}).Fd(nil), os.ErrClosed)
}

func TestKernelLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kernel.log")
	require.NoError(t, os.WriteFile(path, []byte("of the last boot"), 0o644))
	l, err := CreateKernelLog(path)
	require.NoError(t, err)
	assert.Empty(t, l.Tail(10))
	_, _ = l.Write([]byte("one\r\ntwo\n\nthr"))
	_, _ = l.Write([]byte("ee\xff\n"))
	assert.Equal(t, []string{"two", "three\uFFFD"}, l.Tail(2))
	assert.Equal(t, []string{"one", "two", "three\uFFFD"}, l.Tail(10))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "one\r\ntwo\n\nthree\xff\n", string(b))

	chunk := []byte(strings.Repeat("0123456789abcde\n", 64<<10))
	for range KernelLogSize/len(chunk) + 2 {
		n, err := l.Write(chunk)
		require.NoError(t, err)
		require.Len(t, chunk, n)
	}
	_, _ = l.Write([]byte("Kernel panic\n"))
	assert.Equal(t, []string{"0123456789abcde", "Kernel panic"}, l.Tail(2), "the newest lines are known though not kept")
	st, err := os.Stat(path)
	require.NoError(t, err)
	assert.Less(t, st.Size(), int64(KernelLogSize+100))
	assert.Len(t, l.tail, tailSize)
	require.NoError(t, l.Close())
	_, err = l.Write([]byte("x"))
	assert.NoError(t, err)
}

func TestHandler(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(NewHandler(&b, Level("info"))).With("sandbox", "a").WithGroup("g")
	log.Debug("not this")
	log.Warn("two\nlines", "err", errors.New("with \"quotes\" and\nnewline"), "n", 3, slog.Group("in", "k", "v"), "empty", "")
	line := b.String()
	stamp, rest, _ := strings.Cut(line, " ")
	_, err := time.Parse(time.RFC3339, stamp)
	require.NoError(t, err)
	assert.Equal(t, `WARN two lines sandbox=a g.err="with \"quotes\" and\nnewline" g.n=3 g.in.k=v g.empty=""`+"\n", rest)
	for name, want := range map[string]slog.Level{"error": 8, "warn": 4, "": 0, "info": 0, "debug": -4, "trace": -8} {
		assert.Equal(t, want, Level(name))
	}
}
