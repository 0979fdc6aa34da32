//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// syncBuffer is a buffer that may be read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // protected by mu
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// terminal is a pseudo-terminal with us in the place of the person.
type terminal struct {
	master *os.File
	slave  string
	shown  syncBuffer
	read   int // how much of shown was expected already
}

func openTerminal(t *testing.T, rows, cols uint16) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	x := &terminal{master: master, slave: fmt.Sprintf("/dev/pts/%d", n)}
	x.resize(t, rows, cols)
	// Without a slave that stays open the end of one command would be the end of all.
	hold, err := os.OpenFile(x.slave, os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = hold.Close()
		if t.Failed() {
			t.Logf("the terminal showed %q", x.shown.String())
		}
	})
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			_, _ = x.shown.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	return x
}

// start runs cmd on the terminal.
func (x *terminal) start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	slave, err := os.OpenFile(x.slave, os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	defer slave.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, cmd.Start())
}

func (x *terminal) resize(t *testing.T, rows, cols uint16) {
	t.Helper()
	require.NoError(t, unix.IoctlSetWinsize(int(x.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}))
}

func (x *terminal) send(t *testing.T, keys string) {
	t.Helper()
	_, err := x.master.WriteString(keys)
	require.NoError(t, err)
}

// expect waits until the terminal shows text, after what was expected before.
func (x *terminal) expect(t *testing.T, text string) {
	t.Helper()
	eventually(t, "the terminal shows "+text, func() bool {
		at := strings.Index(x.shown.String()[x.read:], text)
		if at < 0 {
			return false
		}
		x.read += at + len(text)
		return true
	})
}
