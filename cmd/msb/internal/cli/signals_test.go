package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	"github.com/gomsb/gomsb/oci/registry/registrytest"
)

// process is msb in a process of its own.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	stderr bytes.Buffer
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	p := &process{cmd: exec.Command(self, args...)}
	p.cmd.Env = append(os.Environ(), commandEnv+"=1")
	p.cmd.Stderr = &p.stderr
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	p.stdout, err = p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	return p
}

// wait returns the exit code, -1 if a signal ended the process.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	timer := time.AfterFunc(30*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	_, _ = io.Copy(io.Discard, p.stdout)
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return p.cmd.ProcessState.ExitCode()
}

func assertNothingLeft(t *testing.T, home string) {
	t.Helper()
	assert.Eventually(t, func() bool { return len(leftovers(t, home)) == 0 }, time.Minute, 5*time.Millisecond)
	// A runtime whose controller was killed removes its row after its files.
	assert.Eventually(t, func() bool { return run("ls").err == "No sandboxes found.\n" }, time.Minute, 5*time.Millisecond)
}

func TestInterruptedCommand(t *testing.T) {
	home := newGuests(t, runtimetest.Guest{})
	for sig, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143, syscall.SIGHUP: 129} {
		p := start(t, "run", "mini", "--entrypoint=", "--", "cat")
		_, err := io.WriteString(p.stdin, "ready")
		require.NoError(t, err)
		_, err = io.ReadFull(p.stdout, make([]byte, 5))
		require.NoError(t, err)
		require.NoError(t, p.cmd.Process.Signal(sig))
		assert.Equal(t, code, p.wait(t), sig)
		assert.Empty(t, p.stderr.String())
		assertNothingLeft(t, home)
	}
}

func TestInterruptedBoot(t *testing.T) {
	home := newGuests(t, runtimetest.Guest{BootTime: time.Hour})
	for _, args := range [][]string{{"run", "mini"}, {"create", "mini"}, {"run", "-d", "mini"}} {
		p := start(t, args...)
		require.Eventually(t, func() bool { return len(leftovers(t, home)) == 3 }, time.Minute, time.Millisecond, "the runtime is up")
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
		assert.Equal(t, 130, p.wait(t))
		assertNothingLeft(t, home)
	}
}

// A pull that is interrupted says nothing more, and the next one goes on.
func TestInterruptedPull(t *testing.T) {
	newHome(t)
	s := serve(t, "app")
	name := s.Host() + "/app:v1"
	s.Break(registrytest.Fault{Path: "/blobs/", Times: -1, Serve: registrytest.Stall(10)})
	p := start(t, "pull", name)
	require.Eventually(t, func() bool { return len(s.Requests("/blobs/")) > 0 }, time.Minute, time.Millisecond)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
	assert.Equal(t, 130, p.wait(t))
	assert.Equal(t, "   ✗ Pulling      "+name+"\n", p.stderr.String())
	s.Mend()
	assert.Equal(t, result{0, "", "   ✓ Pulled       " + name + "\n"}, run("pull", "--materialize", "flat", name))
}

func TestKilledCommand(t *testing.T) {
	home := newGuests(t, runtimetest.Guest{})
	p := start(t, "run", "mini", "--entrypoint=", "--", "cat")
	_, err := io.WriteString(p.stdin, "ready")
	require.NoError(t, err)
	_, err = io.ReadFull(p.stdout, make([]byte, 5))
	require.NoError(t, err)
	require.NoError(t, p.cmd.Process.Kill())
	assert.Equal(t, -1, p.wait(t))
	assertNothingLeft(t, home)
}

func TestSignals(t *testing.T) {
	ctx, s := catchSignals(context.Background())
	exited := make(chan int, 1)
	s.exit = func(code int) { exited <- code }
	assert.Zero(t, s.caught())
	passed := make(chan syscall.Signal, 1)
	stop := s.passOn(func(sig syscall.Signal) { passed <- sig })
	s.handle(syscall.SIGTERM)
	assert.Equal(t, syscall.SIGTERM, <-passed)
	require.NoError(t, ctx.Err(), "the command may end in its own way")
	assert.Equal(t, syscall.SIGTERM, s.caught())
	stop()
	s.handle(syscall.SIGINT)
	<-ctx.Done()
	var i interrupted
	require.ErrorAs(t, context.Cause(ctx), &i)
	assert.Equal(t, syscall.SIGINT, i.sig)
	s.handle(syscall.SIGINT)
	assert.Equal(t, 130, <-exited)
	s.release()

	ctx, s = catchSignals(context.Background())
	s.handle(syscall.SIGHUP)
	<-ctx.Done()
	s.release()

	ctx, s = catchSignals(context.Background())
	s.passOn(func(syscall.Signal) {})
	s.handle(syscall.SIGINT)
	select {
	case <-ctx.Done():
	case <-time.After(signalGrace + 5*time.Second):
		t.Fatal("a command that ignores the signal keeps msb for ever")
	}
	s.release()
}
