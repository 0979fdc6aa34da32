package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// shell is a scripted agent that knows a few commands by name.
func shell() script {
	var mu sync.Mutex
	running := make(map[uint32]string)
	return func(g *guest, m proto.Message) {
		mu.Lock()
		name := running[m.ID]
		mu.Unlock()
		exit := func(code int32) { g.send(m.ID, proto.TypeExecExited, proto.ExecExited{Code: code}) }
		switch m.Type {
		case proto.TypeExecRequest:
			r := decode[proto.ExecRequest](g, m)
			mu.Lock()
			running[m.ID] = r.Cmd
			mu.Unlock()
			if r.Cmd == "none" {
				g.send(m.ID, proto.TypeExecFailed, proto.ExecFailed{
					Kind: proto.FailNotFound, Errno: ptr[int32](2), ErrnoName: proto.ExecErrnoName(2),
					Message: `spawn "none": ` + proto.ErrnoText(2), Stage: ptr("execvp"),
				})
				return
			}
			g.send(m.ID, proto.TypeExecStarted, proto.ExecStarted{PID: 100})
			switch r.Cmd {
			case "echo":
				g.data(m.ID, proto.TypeExecStdout, strings.Join(r.Args, " "))
				g.data(m.ID, proto.TypeExecStderr, "warn")
				exit(42)
			case "deaf":
				g.send(m.ID, proto.TypeExecStdinError, proto.ExecStdinError{
					Errno: ptr[int32](32), ErrnoName: ptr("EPIPE"), Message: "io error: " + proto.ErrnoText(32),
				})
			}
		case proto.TypeExecStdin:
			p, err := proto.DecodeData(m.Payload)
			if err != nil {
				g.t.Errorf("stdin: %v", err)
			}
			switch {
			case name == "cat" && len(p) > 0:
				g.data(m.ID, proto.TypeExecStdout, string(p))
			case name == "cat":
				exit(0)
			}
		case proto.TypeExecSignal:
			if decode[proto.ExecSignal](g, m).Signal == 9 {
				exit(-1)
			}
		case proto.TypeExecResize:
			r := decode[proto.ExecResize](g, m)
			g.data(m.ID, proto.TypeExecStdout, string([]byte{byte(r.Rows), byte(r.Cols)}))
		case proto.TypePing:
			pong(g, m)
		}
	}
}

func TestExecRequestDefaults(t *testing.T) {
	r := Command{Name: "x"}.request()
	assert.Equal(t, proto.ExecRequest{Cmd: "x", Rows: 24, Cols: 80}, r)
	r = Command{Name: "x", Dir: "/d", User: "u", TTY: true, Rows: 1, Cols: 2}.request()
	assert.Equal(t, proto.ExecRequest{Cmd: "x", Cwd: ptr("/d"), User: ptr("u"), TTY: true, Rows: 1, Cols: 2}, r)
}

func TestExecEvents(t *testing.T) {
	c := connect(t, Options{}, shell())
	ctx := testContext(t)
	e, err := c.Exec(ctx, Command{Name: "echo", Args: []string{"a\x00b", "c"}})
	require.NoError(t, err)
	assert.EqualValues(t, 100, e.PID())
	assert.True(t, c.IDs().Contains(e.ID()))
	var got []Event
	for {
		ev, err := e.Recv(ctx)
		if err != nil {
			assert.Equal(t, io.EOF, err)
			break
		}
		got = append(got, ev)
	}
	assert.Equal(t, []Event{
		{Kind: EventStdout, Data: []byte("a\x00b c")},
		{Kind: EventStderr, Data: []byte("warn")},
		{Kind: EventExited, Code: 42},
	}, got)
	_, err = e.Write([]byte("late"))
	assert.ErrorIs(t, err, io.ErrClosedPipe)
	assert.NoError(t, e.CloseStdin(ctx))
	e.Close()
}

func TestExecCollect(t *testing.T) {
	c := connect(t, Options{}, shell())
	ctx := testContext(t)
	out, err := c.ExecCollect(ctx, Command{Name: "echo", Args: []string{"hi"}}, nil)
	require.NoError(t, err)
	assert.Equal(t, &Output{Stdout: []byte("hi"), Stderr: []byte("warn"), Code: 42}, out)

	input := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB, many messages
	out, err = c.ExecCollect(ctx, Command{Name: "cat"}, bytes.NewReader(input))
	require.NoError(t, err)
	assert.True(t, bytes.Equal(input, out.Stdout))

	broken := errors.New("disk on fire")
	out, err = c.ExecCollect(ctx, Command{Name: "cat"}, io.MultiReader(strings.NewReader("part"), failing{broken}))
	require.ErrorIs(t, err, broken)
	assert.Equal(t, "part", string(out.Stdout))
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestExecCollectLimit(t *testing.T) {
	killed := make(chan struct{})
	c := connect(t, Options{MaxCollect: 10}, func(g *guest, m proto.Message) {
		switch m.Type {
		case proto.TypeExecRequest:
			g.send(m.ID, proto.TypeExecStarted, proto.ExecStarted{})
			g.data(m.ID, proto.TypeExecStdout, "12345678")
			g.data(m.ID, proto.TypeExecStderr, "123")
		case proto.TypeExecSignal:
			close(killed)
		}
	})
	_, err := c.ExecCollect(testContext(t), Command{Name: "x"}, nil)
	assert.ErrorIs(t, err, ErrTooLarge)
	<-killed
}

func TestExecFailed(t *testing.T) {
	c := connect(t, Options{}, shell())
	_, err := c.Exec(testContext(t), Command{Name: "none"})
	var failed *ExecError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, ExecError{
		Command: "none", Kind: proto.FailNotFound, Errno: 2, ErrnoName: "ENOENT",
		Message: `spawn "none": No such file or directory (os error 2)`, Stage: "execvp",
	}, *failed)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.NotErrorIs(t, err, fs.ErrPermission)
	assert.ErrorIs(t, &ExecError{Kind: proto.FailPermissionDenied}, fs.ErrPermission)
}

func TestExecSignalResizeAndCancel(t *testing.T) {
	c := connect(t, Options{}, shell())
	ctx := testContext(t)
	e, err := c.Exec(ctx, Command{Name: "sleep", TTY: true})
	require.NoError(t, err)

	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	_, err = e.Recv(short)
	assert.ErrorIs(t, err, context.DeadlineExceeded)

	require.NoError(t, e.Resize(ctx, 40, 100))
	ev, err := e.Recv(ctx)
	require.NoError(t, err)
	assert.Equal(t, []byte{40, 100}, ev.Data)
	for _, bad := range []int{0, -1, 32, 1 << 40} {
		assert.Error(t, e.Signal(ctx, bad))
	}
	require.NoError(t, e.Kill(ctx))
	code, err := e.Wait(ctx)
	require.NoError(t, err)
	assert.Equal(t, -1, code)
}

func TestExecStdinError(t *testing.T) {
	c := connect(t, Options{}, shell())
	ctx := testContext(t)
	e, err := c.Exec(ctx, Command{Name: "deaf"})
	require.NoError(t, err)
	ev, err := e.Recv(ctx)
	require.NoError(t, err)
	assert.Equal(t, EventStdinError, ev.Kind)
	_, err = e.Write([]byte("x"))
	var broken *StdinError
	require.ErrorAs(t, err, &broken)
	assert.Equal(t, StdinError{32, "EPIPE", "io error: Broken pipe (os error 32)"}, *broken)
	assert.NoError(t, e.CloseStdin(ctx))
	e.Close()
	_, err = e.Recv(ctx)
	assert.ErrorIs(t, err, ErrClosed)
}

// TestExecCancelledStartIsKilled checks that a command whose start was given up does not
// run on.
func TestExecCancelledStartIsKilled(t *testing.T) {
	killed := make(chan uint32, 1)
	asked := make(chan uint32, 1)
	c := connect(t, Options{}, func(g *guest, m proto.Message) {
		switch m.Type {
		case proto.TypeExecRequest:
			asked <- m.ID
		case proto.TypeExecSignal:
			killed <- m.ID
		}
	})
	ctx, cancel := context.WithCancel(testContext(t))
	go func() {
		id := <-asked
		asked <- id
		cancel()
	}()
	_, err := c.Exec(ctx, Command{Name: "x"})
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, <-asked, <-killed)
}

func TestThousandExecs(t *testing.T) {
	c := connect(t, Options{}, shell())
	ctx := testContext(t)
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			out, err := c.ExecCollect(ctx, Command{Name: "echo", Args: []string{"hi"}}, nil)
			if assert.NoError(t, err) {
				assert.Equal(t, "hi", string(out.Stdout))
			}
		})
	}
	wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	assert.Empty(t, c.pending)
	assert.Empty(t, c.live)
	assert.Zero(t, c.buffered.Load())
}
