package microsandbox

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

func TestDetachKeys(t *testing.T) {
	for keys, want := range map[string]string{
		"": "\x1d", "ctrl-]": "\x1d", "ctrl-p,ctrl-q": "\x10\x11", "CTRL-A": "\x01", "a,b": "ab", `ctrl-\`: "\x1c", "ctrl-@": "\x00", "ctrl-^": "\x1e", "ctrl-_": "\x1f", "ctrl-[": "\x1b",
	} {
		seq, err := parseDetachKeys(keys)
		require.NoError(t, err, keys)
		assert.Equal(t, want, string(seq), keys)
	}
	for _, keys := range []string{"ctrl-", "ctrl-1", "ctrl-ab", "ab", ",", "a,,b"} {
		_, err := parseDetachKeys(keys)
		assert.True(t, IsKind(err, ErrInvalidConfig), keys)
	}
}

func TestDetachReader(t *testing.T) {
	for name, c := range map[string]struct {
		seq, in, want string
		detached      bool
	}{
		"none":             {"\x1d", "hello", "hello", false},
		"single key":       {"\x1d", "he\x1dllo", "he", true},
		"sequence":         {"pq", "xpqy", "x", true},
		"broken sequence":  {"pq", "pxpq", "px", true},
		"held to the end":  {"pq", "xp", "xp", false},
		"overlapping":      {"aab", "aaab", "a", true},
		"overlapping long": {"abab", "ababab", "", true},
		"not overlapping":  {"aab", "aaxaay", "aaxaay", false},
	} {
		for size, wrap := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader} {
			t.Run(name+" "+size, func(t *testing.T) {
				r := &detachReader{in: wrap(strings.NewReader(c.in)), seq: []byte(c.seq)}
				var got bytes.Buffer
				buf := make([]byte, 16)
				for {
					n, err := r.Read(buf)
					got.Write(buf[:n])
					if err != nil {
						assert.Equal(t, c.detached, errors.Is(err, ErrDetached), "%v", err)
						break
					}
				}
				assert.Equal(t, c.want, got.String())
			})
		}
	}
	_, err := (&detachReader{in: strings.NewReader("x"), seq: []byte("ab")}).Read(make([]byte, 2))
	assert.ErrorIs(t, err, io.ErrShortBuffer)
}

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

func TestInputEnds(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer func() { _ = r.Close() }()
	in, err := newInput(r)
	require.NoError(t, err)
	defer in.close()
	_, err = w.WriteString("x")
	require.NoError(t, err)
	buf := make([]byte, 8)
	n, err := in.Read(buf)
	require.NoError(t, err)
	assert.Equal(t, "x", string(buf[:n]))
	time.AfterFunc(20*time.Millisecond, in.end)
	_, err = in.Read(buf)
	assert.ErrorIs(t, err, os.ErrClosed)
	require.NoError(t, w.Close())
	again, err := newInput(r)
	require.NoError(t, err)
	defer again.close()
	defer again.end()
	_, err = again.Read(buf)
	assert.ErrorIs(t, err, io.EOF)
}
