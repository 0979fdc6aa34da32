package microsandbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

func TestExec(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	sb := create(t, "a", WithShell("request"))
	ctx := testContext(t)

	t.Run("exit code", func(t *testing.T) {
		out, err := sb.Exec(ctx, "exit", []string{"42"})
		require.NoError(t, err)
		assert.Equal(t, 42, out.ExitCode())
		assert.False(t, out.Success())
	})
	t.Run("streams are apart", func(t *testing.T) {
		out, err := sb.Exec(ctx, "warn", []string{"oops"})
		require.NoError(t, err)
		assert.Empty(t, out.StdoutBytes())
		assert.Equal(t, "oops\n", out.Stderr())
		assert.Equal(t, "oops\n", string(out.StderrBytes()))
	})
	t.Run("what is asked for arrives", func(t *testing.T) {
		out, err := sb.Exec(ctx, "request", []string{"x", ""}, WithExecCwd("/w"), WithExecUser("nobody"), WithExecEnv(map[string]string{"B": "2", "A": "0"}),
			WithExecEnv(map[string]string{"A": "1"}), WithExecRlimit(Rlimit{"nofile", 10, 20}), WithExecTTY(true), withExecSize(10, 20))
		require.NoError(t, err)
		var got proto.ExecRequest
		require.NoError(t, json.Unmarshal(out.StdoutBytes(), &got))
		assert.Equal(t, proto.ExecRequest{Cmd: "request", Args: []string{"x", ""}, Cwd: pointer("/w"), User: pointer("nobody"), Env: []string{"A=1", "B=2"},
			Rlimits: []proto.Rlimit{{Resource: "nofile", Soft: 10, Hard: 20}}, TTY: true, Rows: 10, Cols: 20}, got)
	})
	t.Run("shell", func(t *testing.T) {
		out, err := sb.Shell(ctx, "echo $HOME")
		require.NoError(t, err)
		var got proto.ExecRequest
		require.NoError(t, json.Unmarshal(out.StdoutBytes(), &got))
		assert.Equal(t, []string{"-c", "echo $HOME"}, got.Args)
	})
	t.Run("default command", func(t *testing.T) {
		_, err := sb.ExecDefault(ctx)
		var f *ExecFailure
		require.ErrorAs(t, err, &f)
		assert.Equal(t, "/bin/sh", f.Command)
	})
	for kind, args := range map[string][]string{"not_found": {"nowhere"}, "bad_cwd": {"fail", "bad_cwd"}, "permission_denied": {"fail", "permission_denied"}} {
		t.Run(kind, func(t *testing.T) {
			_, err := sb.ExecStream(ctx, args[0], args[1:])
			require.True(t, IsKind(err, ErrExecFailed))
			var f *ExecFailure
			require.ErrorAs(t, err, &f)
			assert.Equal(t, kind, f.Kind)
			assert.Equal(t, args[0], f.Command)
			assert.NotEmpty(t, f.Message)
		})
	}
	for name, opts := range map[string][]ExecOption{
		"reserved variable": {WithExecEnv(map[string]string{"MSB_X": "1"})}, "unknown limit": {WithExecRlimit(Rlimit{"files", 1, 1})},
		"soft above hard": {WithExecRlimit(Rlimit{"nofile", 2, 1})},
	} {
		_, err := sb.Exec(ctx, "echo", nil, opts...)
		assert.True(t, IsKind(err, ErrInvalidConfig), name)
	}
	for _, cmd := range []string{"", "a\x00b"} {
		_, err := sb.Exec(ctx, cmd, nil)
		assert.True(t, IsKind(err, ErrInvalidArgument))
	}
	t.Run("timeout", func(t *testing.T) {
		begin := time.Now()
		_, err := sb.Exec(ctx, "sleep", nil, WithExecTimeout(10*time.Millisecond)) // rounded up
		require.True(t, IsKind(err, ErrExecTimeout), "%v", err)
		assert.EqualError(t, err, "exec timed out after 1s")
		assert.InDelta(t, 1, time.Since(begin).Seconds(), 0.9)
	})
	t.Run("cancel", func(t *testing.T) {
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		_, err := sb.Exec(short, "sleep", nil)
		require.True(t, IsKind(err, ErrCancelled))
		done, cancel := context.WithCancel(ctx)
		cancel()
		_, err = sb.Exec(done, "echo", nil)
		assert.ErrorContains(t, err, "context canceled")
	})
}

func TestExecStream(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	sb := create(t, "a")
	ctx := testContext(t)
	events := func(h *ExecHandle) (kinds []ExecEventKind, last *ExecEvent) {
		for {
			e, err := h.Recv(ctx)
			require.NoError(t, err)
			kinds = append(kinds, e.Kind)
			if e.Kind == ExecEventDone {
				return kinds, last
			}
			last = e
		}
	}
	t.Run("order of events", func(t *testing.T) {
		h, err := sb.ExecStream(ctx, "echo", []string{"x"})
		require.NoError(t, err)
		first, err := h.ID()
		require.NoError(t, err)
		assert.NotEmpty(t, first)
		assert.Nil(t, h.TakeStdin())
		e, err := h.Recv(ctx)
		require.NoError(t, err)
		assert.Equal(t, &ExecEvent{Kind: ExecEventStarted, PID: 42}, e)
		e, err = h.Recv(ctx)
		require.NoError(t, err)
		assert.Equal(t, &ExecEvent{Kind: ExecEventStdout, Data: []byte("x\n")}, e)
		kinds, _ := events(h)
		assert.Equal(t, []ExecEventKind{ExecEventExited, ExecEventDone}, kinds)
		again, _ := events(h)
		assert.Equal(t, []ExecEventKind{ExecEventDone}, again)
		_, err = h.Wait(ctx)
		assert.True(t, IsKind(err, ErrInvalidHandle))
		same, _ := h.ID()
		assert.Equal(t, first, same)
		require.NoError(t, h.Close())
		assert.True(t, IsKind(h.Close(), ErrInvalidHandle))
	})
	t.Run("wait", func(t *testing.T) {
		h, err := sb.ShellStream(ctx, "x")
		assert.Nil(t, h)
		assert.True(t, IsKind(err, ErrExecFailed), "the fake guest has no shell")
		h, err = sb.ExecStream(ctx, "exit", []string{"13"})
		require.NoError(t, err)
		code, err := h.Wait(ctx)
		require.NoError(t, err)
		assert.Equal(t, 13, code)
		require.NoError(t, h.Close())
	})
	for name, end := range map[string]func(*ExecHandle) error{
		"signal": func(h *ExecHandle) error { return h.Signal(ctx, 15) },
		"kill":   func(h *ExecHandle) error { return h.Kill(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			h, err := sb.ExecStream(ctx, "sleep", nil)
			require.NoError(t, err)
			assert.True(t, IsKind(h.Signal(ctx, 0), ErrInvalidArgument))
			require.NoError(t, h.Resize(ctx, 40, 100))
			require.NoError(t, end(h))
			_, last := events(h)
			assert.Equal(t, &ExecEvent{Kind: ExecEventExited, ExitCode: -1}, last)
			require.NoError(t, h.Close())
		})
	}
	t.Run("a cancelled Recv loses nothing", func(t *testing.T) {
		h, err := sb.ExecStream(ctx, "sleep", nil)
		require.NoError(t, err)
		_, err = h.Recv(ctx)
		require.NoError(t, err)
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		_, err = h.Recv(short)
		cancel()
		require.True(t, IsKind(err, ErrCancelled))
		require.NoError(t, h.Kill(ctx))
		code, err := h.Wait(ctx)
		require.NoError(t, err)
		assert.Equal(t, -1, code)
		require.NoError(t, h.Close())
	})
	t.Run("stdin", func(t *testing.T) {
		h, err := sb.ExecStream(ctx, "cat", nil, WithExecStdinPipe())
		require.NoError(t, err)
		sink := h.TakeStdin()
		require.NotNil(t, sink)
		assert.Nil(t, h.TakeStdin())
		input := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
		go func() {
			_, _ = sink.Write(input)
			_ = sink.Close()
		}()
		out, err := h.Collect(ctx)
		require.NoError(t, err)
		assert.Equal(t, sha256.Sum256(input), sha256.Sum256(out.StdoutBytes()))
		_, err = sink.Write([]byte("late"))
		assert.True(t, IsKind(err, ErrIO), "%v", err)
		require.NoError(t, h.Close())
	})
	t.Run("no stdin is the end of it", func(t *testing.T) {
		out, err := sb.Exec(ctx, "cat", nil)
		require.NoError(t, err)
		assert.Empty(t, out.Stdout())
	})
}

func TestLogsOfCommands(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	sb := create(t, "a")
	ctx := testContext(t)
	s, err := sb.LogStream(ctx, LogStreamOptions{Follow: true})
	require.NoError(t, err)
	defer func() { _ = s.Close() }()
	for _, c := range [][]string{{"echo", "one"}, {"warn", "two"}, {"echo", "three"}} {
		_, err := sb.Exec(ctx, c[0], c[1:])
		require.NoError(t, err)
		e, err := s.Recv(ctx)
		require.NoError(t, err)
		assert.Equal(t, c[1]+"\n", e.Text())
		assert.False(t, e.Timestamp.IsZero())
	}
	require.NoError(t, sb.Stop(ctx))
	h, err := GetSandbox(ctx, "a")
	require.NoError(t, err)
	entries, err := h.Logs(ctx, LogOptions{Sources: []LogSource{LogSourceStdout}, Tail: 1})
	require.NoError(t, err)
	assert.Equal(t, []string{"three\n"}, texts(entries))
	assert.Equal(t, uint64(3), *entries[0].SessionID)
	rest, err := h.LogStream(ctx, LogStreamOptions{FromCursor: entries[0].Cursor})
	require.NoError(t, err)
	defer func() { _ = rest.Close() }()
	e, err := rest.Recv(ctx)
	require.NoError(t, err)
	assert.Nil(t, e)
	system, err := h.Logs(ctx, LogOptions{Sources: []LogSource{LogSourceSystem}})
	require.NoError(t, err)
	all := strings.Join(texts(system), "")
	assert.Contains(t, all, "--- sandbox started ---")
	assert.Contains(t, all, "fake kernel")
	assert.Contains(t, all, "sandbox runtime starts")
	assert.IsNonDecreasing(t, times(system))
}

func times(entries []LogEntry) (all []int64) {
	for _, e := range entries {
		all = append(all, e.Timestamp.UnixNano())
	}
	return all
}
