package microsandbox

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func logLine(sec int, source, data string, id int) string {
	return fmt.Sprintf(`{"t":"2026-11-24T00:00:%02d.000Z","s":%q,"d":%q,"id":%d}`+"\n", sec, source, data, id)
}

func texts(entries []LogEntry) (out []string) {
	for _, e := range entries {
		out = append(out, e.Text())
	}
	return out
}

func TestReadLogsSelects(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "exec.log.1"), []byte(logLine(1, "stdout", "a", 1)+"not json\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "exec.log"), []byte(
		logLine(2, "stderr", "b", 1)+logLine(3, "output", "c", 2)+`{"t":"2026-11-24T00:00:04Z","s":"system","d":"--- sandbox stopped ---\n"}`+"\n"+
			`{"t":"2026-11-24T00:00:05Z","s":"stdout","d":"AEI=","id":3,"e":"b64"}`+"\n"+`{"t":"unfinished`), 0o600))
	ctx := context.Background()
	at := func(sec int) time.Time { return time.Date(2026, 11, 24, 0, 0, sec, 0, time.UTC) }
	for name, c := range map[string]struct {
		opt  LogOptions
		want []string
	}{
		"everything printed": {LogOptions{}, []string{"a", "b", "c", "\x00B"}},
		"tail":               {LogOptions{Tail: 2}, []string{"c", "\x00B"}},
		"since is inclusive": {LogOptions{Since: at(3)}, []string{"c", "\x00B"}},
		"until is exclusive": {LogOptions{Until: at(3)}, []string{"a", "b"}},
		"one source":         {LogOptions{Sources: []LogSource{LogSourceStderr}}, []string{"b"}},
		"system":             {LogOptions{Sources: []LogSource{LogSourceSystem}}, []string{"--- sandbox stopped ---\n"}},
	} {
		entries, err := readLogs(ctx, dir, c.opt)
		require.NoError(t, err, name)
		assert.Equal(t, c.want, texts(entries), name)
	}
}

func TestLogStreamFollowsAcrossRotation(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "exec.log")
	require.NoError(t, os.WriteFile(file, []byte(logLine(1, "stdout", "a", 1)), 0o600))
	h, err := openLogStream(dir, LogStreamOptions{Follow: true})
	require.NoError(t, err)
	defer h.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	recv := func() string {
		e, err := h.Recv(ctx)
		require.NoError(t, err)
		require.NotNil(t, e)
		return e.Text()
	}
	assert.Equal(t, "a", recv())
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString(logLine(2, "stdout", "b", 1))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, os.Rename(file, file+".1"))
	require.NoError(t, os.WriteFile(file, []byte(logLine(3, "stdout", "c", 1)), 0o600))
	assert.Equal(t, "b", recv())
	assert.Equal(t, "c", recv())
	go func() { time.Sleep(50 * time.Millisecond); h.Close() }()
	e, err := h.Recv(ctx)
	require.NoError(t, err)
	assert.Nil(t, e, "closed while waiting")
}

func TestLogStreamFinishes(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "exec.log"), []byte(logLine(1, "stdout", "a", 1)+logLine(2, "stdout", "b", 1)), 0o600))
	h, err := openLogStream(dir, LogStreamOptions{Follow: true})
	require.NoError(t, err)
	defer h.Close()
	h.Finish()
	h.Finish()
	for _, want := range []string{"a", "b"} {
		e, err := h.Recv(context.Background())
		require.NoError(t, err)
		require.NotNil(t, e)
		assert.Equal(t, want, e.Text())
	}
	e, err := h.Recv(context.Background())
	require.NoError(t, err)
	assert.Nil(t, e)
}

func TestLogStreamResumesAtCursor(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "exec.log"), []byte(logLine(1, "stdout", "a", 1)+logLine(2, "stdout", "b", 1)), 0o600))
	entries, err := readLogs(context.Background(), dir, LogOptions{})
	require.NoError(t, err)
	require.Len(t, entries, 2)
	h, err := openLogStream(dir, LogStreamOptions{FromCursor: entries[0].Cursor})
	require.NoError(t, err)
	defer h.Close()
	e, err := h.Recv(context.Background())
	require.NoError(t, err)
	require.NotNil(t, e)
	assert.Equal(t, "b", e.Text())
	e, err = h.Recv(context.Background())
	require.NoError(t, err)
	assert.Nil(t, e)
	for _, bad := range []string{"x", "12.zz", "ffffffff.0", entries[0].Cursor + "fff"} {
		_, err := openLogStream(dir, LogStreamOptions{FromCursor: bad})
		assert.True(t, IsKind(err, ErrInvalidArgument), bad)
	}
	_, err = openLogStream(dir, LogStreamOptions{FromCursor: entries[0].Cursor, Since: time.Now()})
	assert.True(t, IsKind(err, ErrInvalidArgument))
}

func TestSystemLogs(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, at int) {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, []byte(text), 0o600))
		when := time.Date(2026, 11, 24, 0, 0, at, 0, time.UTC)
		require.NoError(t, os.Chtimes(p, when, when))
	}
	write("exec.log", logLine(3, "system", "--- sandbox started ---\n", 0)+logLine(4, "stdout", "out", 1), 9)
	write("runtime.log.1", "2026-11-24T00:00:01Z INFO older\n", 1)
	write("runtime.log", "2026-11-24T00:00:02Z INFO first\ncontinued\n2026-11-24T00:00:05Z INFO last\n", 5)
	write("kernel.log", "booting\nno newline", 6)
	ctx := context.Background()
	entries, err := readLogs(ctx, dir, LogOptions{Sources: []LogSource{LogSourceSystem}})
	require.NoError(t, err)
	want := []string{
		"2026-11-24T00:00:01Z INFO older\n", "2026-11-24T00:00:02Z INFO first\n", "continued\n", "--- sandbox started ---\n",
		"2026-11-24T00:00:05Z INFO last\n", "booting\n", "no newline",
	}
	assert.Equal(t, want, texts(entries))
	entries, err = readLogs(ctx, dir, LogOptions{Sources: []LogSource{LogSourceSystem, LogSourceStdout}, Tail: 4})
	require.NoError(t, err)
	assert.Equal(t, []string{"out", "2026-11-24T00:00:05Z INFO last\n", "booting\n", "no newline"}, texts(entries))

	h, err := openLogStream(dir, LogStreamOptions{Sources: []LogSource{LogSourceSystem}})
	require.NoError(t, err)
	defer h.Close()
	var streamed []LogEntry
	for {
		e, err := h.Recv(ctx)
		require.NoError(t, err)
		if e == nil {
			break
		}
		streamed = append(streamed, *e)
	}
	assert.Equal(t, want[:6], texts(streamed), "a stream waits for the end of a line")
	write("kernel.log", "again\n", 7) // the next start begins it afresh
	e, err := h.Recv(ctx)
	require.NoError(t, err)
	require.NotNil(t, e)
	assert.Equal(t, "again\n", e.Text())

	write("kernel.log", strings.Repeat("x", 200<<10), 8)
	entries, err = readLogs(ctx, dir, LogOptions{Sources: []LogSource{LogSourceSystem}, Since: time.Date(2026, 11, 24, 0, 0, 8, 0, time.UTC)})
	require.NoError(t, err)
	assert.Len(t, strings.Join(texts(entries), ""), 200<<10, "a guest need not print lines")
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = readLogs(canceled, dir, LogOptions{})
	assert.True(t, IsKind(err, ErrCancelled))
	_, err = h.Recv(canceled)
	assert.True(t, IsKind(err, ErrCancelled))
}

// TestLogStreamManyRotations: file systems give the number of a file that was rotated
// away to the next new one, so a stream must not take it for one that it has read.
func TestLogStreamManyRotations(t *testing.T) {
	dir := t.TempDir()
	rotate := func(text string) {
		for i := 3; i >= 0; i-- {
			name := "exec.log"
			if i > 0 {
				name = fmt.Sprintf("exec.log.%d", i)
			}
			_ = os.Rename(filepath.Join(dir, name), filepath.Join(dir, fmt.Sprintf("exec.log.%d", i+1)))
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, "exec.log"), []byte(text), 0o600))
	}
	h, err := openLogStream(dir, LogStreamOptions{})
	require.NoError(t, err)
	defer h.Close()
	for i := range 60 {
		text := fmt.Sprint(i)
		rotate(logLine(i, "stdout", text, 1) + `{"t":"half a line`)
		e, err := h.Recv(context.Background())
		require.NoError(t, err)
		require.NotNil(t, e, "rotation %d", i)
		assert.Equal(t, text, e.Text())
		e, err = h.Recv(context.Background())
		require.NoError(t, err)
		require.Nil(t, e, "rotation %d", i)
	}
	for i := range 3 {
		rotate(logLine(i, "stdout", fmt.Sprint("late ", i), 1))
	}
	for i := range 3 {
		e, err := h.Recv(context.Background())
		require.NoError(t, err)
		require.NotNil(t, e)
		assert.Equal(t, fmt.Sprint("late ", i), e.Text(), "several files behind")
	}
}

func TestLogLineTooLong(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "exec.log"), bytes.Repeat([]byte("x"), maxLogLine+(1<<20)), 0o600))
	_, err := readLogs(context.Background(), dir, LogOptions{})
	assert.ErrorContains(t, err, "a log line is longer than")
	assert.True(t, IsKind(err, ErrIO))
}

func FuzzLogs(f *testing.F) {
	f.Add([]byte(logLine(1, "stdout", "x", 1)), []byte("2026-11-24T00:00:01Z INFO x\n"))
	f.Add([]byte(`{"s":"stdout","d":"!","e":"b64"}`+"\n"), []byte("\x00\n\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, exec, text []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "exec.log"), exec, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "kernel.log"), text, 0o600))
		all := LogOptions{Sources: []LogSource{LogSourceStdout, LogSourceStderr, LogSourceOutput, LogSourceSystem}}
		entries, err := readLogs(context.Background(), dir, all)
		require.NoError(t, err)
		var kernel []byte
		for _, e := range entries {
			if e.Source == LogSourceSystem && e.Cursor == "" {
				kernel = append(kernel, e.Data...)
			}
			if e.Cursor != "" {
				_, _, err := parseCursor(e.Cursor)
				require.NoError(t, err)
			}
		}
		assert.True(t, bytes.Equal(text, kernel), "no byte of a system log is lost")
	})
}
