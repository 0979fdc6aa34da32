//go:build e2e

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

func TestExecCollects(t *testing.T) {
	sb := shared(t)
	ctx := within(t, patience)
	out, err := sb.Exec(ctx, "echo", []string{"hello"})
	require.NoError(t, err)
	assert.True(t, out.Success())
	assert.Equal(t, "hello\n", out.Stdout())

	out, err = sb.Exec(ctx, "sh", []string{"-c", "exit 42"})
	require.NoError(t, err)
	assert.Equal(t, 42, out.ExitCode())
	assert.False(t, out.Success())

	out, err = sb.Shell(ctx, `printf 'A\0B'`)
	require.NoError(t, err)
	assert.Equal(t, []byte{65, 0, 66}, out.StdoutBytes())

	out, err = sb.Shell(ctx, "echo out; echo err >&2; kill -9 $$")
	require.NoError(t, err)
	assert.Equal(t, -1, out.ExitCode(), "death by a signal")
	assert.Equal(t, "out\n", out.Stdout())
	assert.Equal(t, "err\n", out.Stderr())
}

func TestExecSetting(t *testing.T) {
	sb := shared(t)
	assert.Equal(t, "guest", shell(t, sb, "whoami", msb.WithExecUser("guest")))
	assert.Equal(t, "1000 1000", shell(t, sb, "echo $(id -u) $(id -g)", msb.WithExecUser("guest")))
	assert.Equal(t, "4242 7", shell(t, sb, "echo $(id -u) $(id -g)", msb.WithExecUser("4242:7")))
	assert.Equal(t, "/tmp", shell(t, sb, "echo $HOME", msb.WithExecUser("guest")))
	assert.Equal(t, "/usr/bin", shell(t, sb, "pwd", msb.WithExecCwd("/usr/bin")))
	assert.Equal(t, "a=1 b=two words", shell(t, sb, `echo "a=$A b=$B"`, msb.WithExecEnv(map[string]string{"A": "1", "B": "two words"})))
	assert.Equal(t, "77", shell(t, sb, "ulimit -n", msb.WithExecRlimit(msb.Rlimit{Resource: "nofile", Soft: 77, Hard: 99})))
	assert.Equal(t, "/.msb/scripts", strings.Split(shell(t, sb, "echo $PATH"), ":")[0])
}

func TestExecFailures(t *testing.T) {
	sb := shared(t)
	ctx := within(t, patience)
	for name, c := range map[string]struct {
		cmd  string
		opts []msb.ExecOption
		want string
	}{
		"missing":    {"no-such-program", nil, "not_found"},
		"directory":  {"/bin", nil, "permission_denied"},
		"no program": {"/etc/passwd", nil, "permission_denied"},
		"cwd":        {"true", []msb.ExecOption{msb.WithExecCwd("/no/such/dir")}, "bad_cwd"},
		"user":       {"true", []msb.ExecOption{msb.WithExecUser("nobody-here")}, "user_setup_failed"},
	} {
		_, err := sb.ExecStream(ctx, c.cmd, nil, c.opts...)
		var failure *msb.ExecFailure
		if assert.ErrorAs(t, err, &failure, name) {
			assert.Equal(t, c.want, failure.Kind, "%s: %s", name, failure.Message)
			assert.NotEmpty(t, failure.Message, name)
		}
		assert.True(t, msb.IsKind(err, msb.ErrExecFailed), name)
	}
	assert.Equal(t, "still here", shell(t, sb, "echo still here"))
}

func TestExecTimeout(t *testing.T) {
	sb := shared(t)
	timed(t, 20*time.Second, func(ctx context.Context) {
		_, err := sb.Shell(ctx, "sleep 3535", msb.WithExecTimeout(2*time.Second))
		assert.True(t, msb.IsKind(err, msb.ErrExecTimeout), "%v", err)
	})
	noProcess(t, sb, "sleep 3535")
}

func TestExecCancelled(t *testing.T) {
	sb := shared(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	timed(t, 5*time.Second, func(context.Context) {
		_, err := sb.Shell(ctx, "sleep 3636")
		assert.ErrorContains(t, err, "context canceled")
		assert.True(t, msb.IsKind(err, msb.ErrCancelled), "%v", err)
	})
	noProcess(t, sb, "sleep 3636")
}

// noProcess waits until no process of the guest has the command line.
func noProcess(t *testing.T, sb *msb.Sandbox, command string) {
	t.Helper()
	eventually(t, command+" ends", func() bool {
		return !strings.Contains(shell(t, sb, "ps -o args"), "\n"+command)
	})
}

// events receives everything until Done.
func events(t *testing.T, h *msb.ExecHandle) []*msb.ExecEvent {
	t.Helper()
	ctx := within(t, patience)
	var all []*msb.ExecEvent
	for {
		e, err := h.Recv(ctx)
		require.NoError(t, err)
		all = append(all, e)
		if e.Kind == msb.ExecEventDone {
			return all
		}
	}
}

func TestExecStreams(t *testing.T) {
	sb := shared(t)
	ctx := within(t, patience)
	h, err := sb.ExecStream(ctx, "echo", []string{"streamed"})
	require.NoError(t, err)
	id, err := h.ID()
	require.NoError(t, err)
	assert.NotEmpty(t, id)
	all := events(t, h)
	require.Len(t, all, 4)
	assert.Equal(t, msb.ExecEventStarted, all[0].Kind)
	assert.NotZero(t, all[0].PID)
	assert.Equal(t, msb.ExecEventStdout, all[1].Kind)
	assert.Equal(t, "streamed\n", string(all[1].Data))
	assert.Equal(t, msb.ExecEventExited, all[2].Kind)
	again, err := h.ID()
	require.NoError(t, err)
	assert.Equal(t, id, again)
	require.NoError(t, h.Close())
	assert.True(t, msb.IsKind(h.Close(), msb.ErrInvalidHandle))

	h, err = sb.ShellStream(ctx, "echo out; echo err >&2; exit 7")
	require.NoError(t, err)
	got := map[msb.ExecEventKind]string{}
	for _, e := range events(t, h) {
		got[e.Kind] += string(e.Data)
		if e.Kind == msb.ExecEventExited {
			assert.Equal(t, 7, e.ExitCode)
		}
	}
	assert.Equal(t, "out\n", got[msb.ExecEventStdout])
	assert.Equal(t, "err\n", got[msb.ExecEventStderr])

	h, err = sb.ShellStream(ctx, "exit 13")
	require.NoError(t, err)
	code, err := h.Wait(ctx)
	require.NoError(t, err)
	assert.Equal(t, 13, code)
}

func TestExecSignals(t *testing.T) {
	sb := shared(t)
	for name, end := range map[string]func(*msb.ExecHandle, context.Context) error{
		"signal": func(h *msb.ExecHandle, ctx context.Context) error { return h.Signal(ctx, 15) },
		"kill":   (*msb.ExecHandle).Kill,
	} {
		timed(t, 10*time.Second, func(ctx context.Context) {
			h, err := sb.ExecStream(ctx, "sleep", []string{"4141"})
			require.NoError(t, err)
			require.NoError(t, end(h, ctx))
			code, err := h.Wait(ctx)
			require.NoError(t, err)
			assert.Equal(t, -1, code, name)
		})
	}
	h, err := sb.ShellStream(within(t, patience), "trap 'exit 9' TERM; echo set; while :; do sleep 0.1; done")
	require.NoError(t, err)
	ctx := within(t, patience)
	for {
		e, err := h.Recv(ctx)
		require.NoError(t, err)
		if e.Kind == msb.ExecEventStdout {
			break
		}
	}
	require.NoError(t, h.Signal(ctx, 15))
	code, err := h.Wait(ctx)
	require.NoError(t, err)
	assert.Equal(t, 9, code)
	assert.True(t, msb.IsKind(h.Signal(ctx, 64), msb.ErrInvalidArgument))
}

func TestExecKillsTheWholeGroup(t *testing.T) {
	sb := shared(t)
	ctx := within(t, patience)
	h, err := sb.ShellStream(ctx, "sleep 4949 & sleep 4949 & echo started; wait")
	require.NoError(t, err)
	for {
		e, err := h.Recv(ctx)
		require.NoError(t, err)
		if e.Kind == msb.ExecEventStdout {
			break
		}
	}
	require.NoError(t, h.Kill(ctx))
	_, err = h.Wait(ctx)
	require.NoError(t, err)
	noProcess(t, sb, "sleep 4949")
}

func TestExecRecvCancelled(t *testing.T) {
	sb := shared(t)
	h, err := sb.ExecStream(within(t, patience), "sleep", []string{"4242"})
	require.NoError(t, err)
	_, err = h.Recv(within(t, patience)) // Started
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	timed(t, 5*time.Second, func(context.Context) {
		_, err = h.Recv(ctx)
		assert.ErrorContains(t, err, "context canceled")
	})
	require.NoError(t, h.Kill(within(t, patience)))
	_, err = h.Wait(within(t, patience))
	require.NoError(t, err, "the stream survives")
}

func TestExecStdin(t *testing.T) {
	sb := shared(t)
	ctx := within(t, patience)
	h, err := sb.ExecStream(ctx, "cat", nil)
	require.NoError(t, err)
	assert.Nil(t, h.TakeStdin())
	code, err := h.Wait(ctx)
	require.NoError(t, err, "without a pipe the input is empty")
	assert.Zero(t, code)

	h, err = sb.ExecStream(ctx, "cat", nil, msb.WithExecStdinPipe())
	require.NoError(t, err)
	in := h.TakeStdin()
	require.NotNil(t, in)
	assert.Nil(t, h.TakeStdin())
	_, err = in.Write([]byte("over and back"))
	require.NoError(t, err)
	require.NoError(t, in.Close())
	out, err := h.Collect(ctx)
	require.NoError(t, err)
	assert.Equal(t, "over and back", out.Stdout())
}

func TestExecSlowReader(t *testing.T) {
	sb := shared(t)
	ctx := within(t, patience)
	h, err := sb.ShellStream(ctx, "sleep 1; sha256sum", msb.WithExecStdinPipe())
	require.NoError(t, err)
	sum := sha256.New()
	go func() {
		in := h.TakeStdin()
		_, _ = io.CopyN(io.MultiWriter(in, sum), rand.NewChaCha8([32]byte{1}), 1<<20)
		_ = in.Close()
	}()
	out, err := h.Collect(ctx)
	require.NoError(t, err)
	assert.Equal(t, hex.EncodeToString(sum.Sum(nil))+"  -\n", out.Stdout())
}

func TestExecBrokenPipe(t *testing.T) {
	sb := shared(t)
	ctx := within(t, patience)
	h, err := sb.ShellStream(ctx, "exec 0<&-; echo closed; sleep 3", msb.WithExecStdinPipe())
	require.NoError(t, err)
	in := h.TakeStdin()
	broken := false
	for {
		e, err := h.Recv(ctx)
		require.NoError(t, err)
		switch e.Kind {
		case msb.ExecEventStdout:
			_, err = in.Write([]byte("nobody reads this"))
			require.NoError(t, err)
			continue
		case msb.ExecEventStdinError:
			broken = true
			assert.Equal(t, "EPIPE", e.Failure.ErrnoName)
			continue
		case msb.ExecEventDone:
		default:
			continue
		}
		break
	}
	assert.True(t, broken, "the broken pipe was reported")

	// A command that ends early does not hang its writer.
	h, err = sb.ExecStream(ctx, "true", nil, msb.WithExecStdinPipe())
	require.NoError(t, err)
	in = h.TakeStdin()
	written := make(chan error, 1)
	go func() {
		var err error
		for range 64 {
			if _, err = in.WriteCtx(ctx, make([]byte, 1<<20)); err != nil {
				break
			}
		}
		written <- err
	}()
	_, err = h.Wait(ctx)
	require.NoError(t, err)
	select {
	case err := <-written:
		assert.NotErrorIs(t, err, context.DeadlineExceeded)
	case <-time.After(20 * time.Second):
		t.Error("the writer hangs")
	}
}

func TestExecTerminal(t *testing.T) {
	sb := shared(t)
	ctx := within(t, patience)
	h, err := sb.ShellStream(ctx, "trap 'stty size; exit 0' WINCH; echo out; echo err >&2; echo ready; while :; do sleep 0.1; done", msb.WithExecTTY(true))
	require.NoError(t, err)
	var text strings.Builder
	ready := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		told := false
		for {
			e, err := h.Recv(ctx)
			if err != nil || e.Kind == msb.ExecEventDone {
				done <- err
				return
			}
			if e.Kind == msb.ExecEventStderr {
				done <- errors.New("stderr of a terminal is not apart")
				return
			}
			text.Write(e.Data)
			if !told && strings.Contains(text.String(), "ready") {
				told = true
				close(ready)
			}
		}
	}()
	<-ready
	timed(t, 5*time.Second, func(ctx context.Context) { require.NoError(t, h.Resize(ctx, 40, 100), "while Recv waits") })
	require.NoError(t, <-done)
	assert.Equal(t, "out\r\nerr\r\nready\r\n40 100\r\n", text.String())
}

func TestExecDefaultCommand(t *testing.T) {
	sb := create(t, msb.WithEntrypoint("echo"), msb.WithCmd("by", "default"))
	out, err := sb.ExecDefault(within(t, patience))
	require.NoError(t, err)
	assert.Equal(t, "by default\n", out.Stdout())
	require.NoError(t, sb.Stop(within(t, patience)))

	sb = create(t, msb.WithEntrypoint(), msb.WithCmd())
	_, err = sb.ExecDefault(within(t, patience))
	assert.True(t, msb.IsKind(err, msb.ErrNoDefaultCommand), "%v", err)
}

// TestExecBulk sends 100 MiB through a command and back.
func TestExecBulk(t *testing.T) {
	const size = 100 << 20
	sb := shared(t)
	ctx := within(t, 5*patience)
	h, err := sb.ExecStream(ctx, "cat", nil, msb.WithExecStdinPipe())
	require.NoError(t, err)
	sent, got := sha256.New(), sha256.New()
	fed := make(chan error, 1)
	begin := time.Now()
	go func() {
		in := h.TakeStdin()
		_, err := io.CopyN(io.MultiWriter(in, sent), rand.NewChaCha8([32]byte{2}), size)
		fed <- errors.Join(err, in.Close())
	}()
	n := 0
	for {
		e, err := h.Recv(ctx)
		require.NoError(t, err)
		if e.Kind == msb.ExecEventDone {
			break
		}
		n += len(e.Data)
		got.Write(e.Data)
	}
	require.NoError(t, <-fed)
	assert.Equal(t, size, n)
	assert.Equal(t, sent.Sum(nil), got.Sum(nil))
	t.Logf("%d MiB in and out in %s", size>>20, time.Since(begin).Round(time.Millisecond))
}

// TestExecUnread leaves the output of one command unread: it waits in the guest, and the
// others go on.
func TestExecUnread(t *testing.T) {
	sb := create(t)
	ctx := within(t, 3*patience)
	h, err := sb.ExecStream(ctx, "yes", nil)
	require.NoError(t, err)
	_, err = h.Recv(ctx)
	require.NoError(t, err)
	for range 4 {
		timed(t, 10*time.Second, func(context.Context) { assert.Equal(t, "freely", shell(t, sb, "echo freely")) })
	}
	require.NoError(t, sb.FS().WriteString(ctx, "/tmp/besides", "files too"))
	for read := 0; read < 8<<20; {
		e, err := h.Recv(ctx)
		require.NoError(t, err)
		read += len(e.Data)
	}
	require.NoError(t, h.Kill(ctx))
	code, err := h.Wait(ctx)
	require.NoError(t, err)
	assert.NotZero(t, code)
	noProcess(t, sb, "yes")
}

// TestExecReadSlowly reads one command's output slowly, while others run beside it.
func TestExecReadSlowly(t *testing.T) {
	sb := shared(t)
	ctx := within(t, 2*patience)
	h, err := sb.ShellStream(ctx, "for i in $(seq 200); do echo line $i; sleep 0.05; done")
	require.NoError(t, err)
	var text strings.Builder
	for done := false; !done; {
		e, err := h.Recv(ctx)
		require.NoError(t, err)
		text.Write(e.Data)
		done = e.Kind == msb.ExecEventDone
		if text.Len()%40 == 0 {
			timed(t, 10*time.Second, func(context.Context) { assert.Equal(t, "beside", shell(t, sb, "echo beside")) })
		}
	}
	assert.Equal(t, 200, strings.Count(text.String(), "line "))
}

func TestExecMany(t *testing.T) {
	sb := shared(t)
	ctx := within(t, 2*patience)
	errs := make(chan error)
	const many = 20
	for n := range many {
		go func() {
			out, err := sb.Exec(ctx, "echo", []string{fmt.Sprint(n)})
			if err == nil && out.Stdout() != fmt.Sprintln(n) {
				err = fmt.Errorf("command %d printed %q", n, out.Stdout())
			}
			errs <- err
		}()
	}
	for range many {
		assert.NoError(t, <-errs)
	}
}

func TestOrphansAreReaped(t *testing.T) {
	sb := shared(t)
	shell(t, sb, `for i in 1 2 3 4 5 6 7 8 9 10; do (sh -c "sleep 0.$i" &); (setsid sleep 0.$i &); (true &); done`)
	eventually(t, "zombies are reaped", func() bool {
		return shell(t, sb, `cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ' || true`) == "0"
	})
}
