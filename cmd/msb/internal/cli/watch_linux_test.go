package cli

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

// onTerminal starts msb with a pseudo terminal as its output, which screen reads.
func onTerminal(t *testing.T, env string, args ...string) (cmd *exec.Cmd, screen *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = screen.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	defer func() { _ = tty.Close() }()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd = exec.Command(self, args...)
	cmd.Env = append(os.Environ(), commandEnv+"=1", env)
	cmd.Stdout, cmd.Stderr = tty, tty
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, screen
}

// readUntil reads from a screen until it has shown want n times, or to its end.
func readUntil(screen *os.File, want string, n int) string {
	var all strings.Builder
	buf := make([]byte, 4096)
	for strings.Count(all.String(), want) < n {
		n, err := screen.Read(buf)
		all.Write(buf[:n])
		if err != nil { // EIO: nobody has the terminal any more
			break
		}
	}
	return all.String()
}

// A table that is watched hides the cursor, and gives it back when it is interrupted.
func TestMetricsWatch(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	succeed(t, "create", "-n", "m1", "mini")
	cmd, screen := onTerminal(t, "TERM=xterm", "metrics", "--watch", "--interval", "100ms")
	shown := readUntil(screen, "\nm1 ", 2)
	assert.Equal(t, 1, strings.Count(shown, "\x1b[?25l"), shown)
	assert.GreaterOrEqual(t, strings.Count(shown, "\x1b[2J"), 2, shown)
	assert.NotContains(t, shown, "\x1b[?25h")
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	rest := readUntil(screen, "\x1b[?25h", 1)
	assert.True(t, strings.HasSuffix(rest, "\x1b[?25h"), "%q", rest)
	assert.Error(t, cmd.Wait())
	assert.Equal(t, 130, cmd.ProcessState.ExitCode())

	cmd, screen = onTerminal(t, "TERM=dumb", "metrics", "--watch")
	shown = readUntil(screen, "streaming", 1)
	assert.Contains(t, shown, "--watch requires a terminal")
	assert.NotContains(t, shown, "\x1b[?25l", "which it would show as it is")
	assert.Error(t, cmd.Wait())
	assert.Equal(t, 1, cmd.ProcessState.ExitCode())
}
