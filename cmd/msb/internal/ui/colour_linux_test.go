package ui

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestColour(t *testing.T) {
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	defer func() { _ = pty.Close() }()
	require.NoError(t, unix.IoctlSetPointerInt(int(pty.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(pty.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	defer func() { _ = tty.Close() }()
	t.Setenv("NO_COLOR", "")
	Error(tty, "x")
	lines := bufio.NewReader(pty) // a read may end anywhere
	read := func() string {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		return line
	}
	assert.Equal(t, "\x1b[1;31merror:\x1b[0m x\r\n", read())
	Table(tty, []string{"NAME", "STATUS", "X"}, [][]string{{"running", "running", "y"}, {"b", "odd", "z"}})
	assert.Equal(t, "\x1b[1;36mNAME       STATUS     X\x1b[0m\r\n", read())
	assert.Equal(t, "running    \x1b[1;32mrunning\x1b[0m    y\r\n", read())
	assert.Equal(t, "b          odd        z\r\n", read())
	assert.Equal(t, "\x1b[36mk\x1b[0m\x1b[1mt\x1b[0m", Key(tty, "k")+Title(tty, "t"))
	t.Setenv("NO_COLOR", "1")
	Error(tty, "x")
	assert.Equal(t, "error: x\r\n", read())
	fd, ok := Terminal(tty)
	assert.True(t, ok)
	assert.Equal(t, int(tty.Fd()), fd)
	_, ok = Terminal(&bytes.Buffer{})
	assert.False(t, ok)
}
