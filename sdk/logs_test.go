package microsandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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
		"until is inclusive": {LogOptions{Until: at(2)}, []string{"a", "b"}},
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
