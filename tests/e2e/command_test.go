//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
)

// result is how an invocation of msb ended.
type result struct {
	stdout, stderr string
	code           int
}

// cli runs msb with an empty input.
func cli(t *testing.T, args ...string) result {
	t.Helper()
	return cliWith(t, nil, args...)
}

// cliWith runs msb with stdin, nil for none.
func cliWith(t *testing.T, stdin io.Reader, args ...string) result {
	t.Helper()
	cmd := command(t, args...)
	cmd.Stdin = stdin
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// command is an invocation of msb that a hang cannot outlive.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(within(t, 2*patience), os.Getenv("MSB_PATH"), args...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	cmd.WaitDelay = time.Second
	return cmd
}

// ok asserts success and returns the standard output.
func (r result) ok(t *testing.T) string {
	t.Helper()
	require.Zero(t, r.code, "%s%s", r.stdout, r.stderr)
	return r.stdout
}

func sharedSocket(t *testing.T) string {
	t.Helper()
	path, err := launch.AgentSocket(homePath("run"), sharedName)
	require.NoError(t, err)
	return path
}

// eventually waits until f, called from this goroutine, returns true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(100 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "in vain: %s", what)
	}
}

// timed runs f and asserts that it did not take longer than limit.
func timed(t *testing.T, limit time.Duration, f func(ctx context.Context)) {
	t.Helper()
	begin := time.Now()
	f(within(t, patience))
	require.Less(t, time.Since(begin), limit)
}
