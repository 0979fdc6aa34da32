package microsandbox

import (
	"io"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

// terminal is a pseudo terminal: what is written to its keyboard is typed.
func terminal(t *testing.T) (keyboard, tty *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = keyboard.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = tty.Close() })
	require.NoError(t, unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 30, Col: 90}))
	return keyboard, tty
}

func TestAttach(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	sb := create(t, "a")
	ctx := testContext(t)
	keyboard, tty := terminal(t)
	cooked, err := term.GetState(int(tty.Fd()))
	require.NoError(t, err)

	type result struct {
		code int
		err  error
	}
	attach := func(cmd string, args ...string) chan result {
		done := make(chan result, 1)
		go func() {
			code, err := sb.attach(ctx, tty, tty, cmd, args, []AttachOption{WithAttachEnv(map[string]string{"TERM": "vt100"}), WithAttachDetachKeys("ctrl-p,ctrl-q")})
			done <- result{code, err}
		}()
		return done
	}
	read := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		_, err := io.ReadFull(keyboard, got)
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}

	done := attach("cat")
	require.Eventually(t, func() bool {
		now, err := term.GetState(int(tty.Fd()))
		return err == nil && !assert.ObjectsAreEqual(cooked, now)
	}, 10*time.Second, time.Millisecond, "the terminal becomes raw")
	_, err = keyboard.WriteString("\x03typed")
	require.NoError(t, err)
	read("\x03typed") // raw: ctrl-C is a character like any other, and nothing echoes
	_, err = keyboard.WriteString("\x10\x11")
	require.NoError(t, err)
	r := <-done
	assert.ErrorIs(t, r.err, ErrDetached)
	restored, err := term.GetState(int(tty.Fd()))
	require.NoError(t, err)
	assert.Equal(t, cooked, restored, "the terminal is as it was")

	// What was typed before, while the terminal edited lines itself, is the command's first
	// line; the terminal has echoed it already.
	_, err = keyboard.WriteString("ahead\r")
	require.NoError(t, err)
	read("ahead\r\n")
	done = attach("cat")
	read("ahead\n")
	_, err = keyboard.WriteString("\x10\x11")
	require.NoError(t, err)
	assert.ErrorIs(t, (<-done).err, ErrDetached)

	r = <-attach("request")
	require.NoError(t, r.err)
	got := make([]byte, 4096)
	n, err := keyboard.Read(got)
	require.NoError(t, err)
	assert.Contains(t, string(got[:n]), `"TERM=vt100"`)
	assert.Contains(t, string(got[:n]), `"TTY":true,"Rows":30,"Cols":90`)

	r = <-attach("exit", "7")
	require.NoError(t, r.err)
	assert.Equal(t, 7, r.code)
	r = <-attach("nowhere")
	assert.True(t, IsKind(r.err, ErrExecFailed))
	// What is typed after the end belongs to the next reader.
	_, err = keyboard.WriteString("next\n")
	require.NoError(t, err)
	n, err = tty.Read(got)
	require.NoError(t, err)
	assert.Equal(t, "next\n", string(got[:n]))
	_, err = sb.attach(ctx, tty, tty, "cat", nil, []AttachOption{WithAttachDetachKeys("nonsense")})
	assert.True(t, IsKind(err, ErrInvalidConfig))
}
