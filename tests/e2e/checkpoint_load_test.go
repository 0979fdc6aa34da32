//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// loadBlock is the size in bytes of the blocks of tests/e2e/load, which send and receive
// numbered ones.
const loadBlock = 8192

func numbered(i uint64) []byte {
	return bytes.Repeat(binary.LittleEndian.AppendUint64(nil, i), loadBlock/8)
}

// receive reads numbered blocks until c ends, slower than a guest sends them.
func receive(c net.Conn, blocks *atomic.Uint64) error {
	b := make([]byte, loadBlock)
	for {
		if _, err := io.ReadFull(c, b); err != nil {
			return err
		}
		if n := blocks.Load(); !bytes.Equal(b, numbered(n)) {
			return fmt.Errorf("block %d came as %x", n, b[:8])
		}
		blocks.Add(1)
		time.Sleep(10 * time.Millisecond)
	}
}

// send writes numbered blocks until c ends.
func send(c net.Conn, blocks *atomic.Uint64) error {
	for {
		if _, err := c.Write(numbered(blocks.Load())); err != nil {
			return err
		}
		blocks.Add(1)
		time.Sleep(10 * time.Millisecond)
	}
}

// loaded is a sandbox that runs tests/e2e/load, and a host that starts one command after the other in
// it, several at a time.
type loaded struct {
	*msb.Sandbox
	up, down, execs atomic.Uint64
	conns           [2]net.Conn // of up and down
	failed          chan error  // of each of the streams and the loops of commands, when it ends
	loops           int
}

func newLoaded(ctx context.Context, t *testing.T, cpus int) *loaded {
	t.Helper()
	dir := t.TempDir()
	l := &loaded{failed: make(chan error, 5)}
	var servers [2]net.Listener
	routes := make([]msb.VsockRoute, len(servers))
	for i := range servers {
		var err error
		routes[i] = msb.VsockRoute{HostSocket: filepath.Join(dir, fmt.Sprint("s", i)), Port: uint32(7000 + i)}
		servers[i], err = net.Listen("unix", routes[i].HostSocket)
		require.NoError(t, err)
		t.Cleanup(func() { _ = servers[i].Close() })
	}
	name := newName(t)
	sb, err := msb.CreateSandbox(within(t, 5*patience), name, msb.WithImage("mini"), msb.WithCPUs(uint8(cpus)), msb.WithVsock(routes...), bind("/programs", data("programs"), msb.MountOptions{Readonly: true}))
	require.NoError(t, err)
	l.Sandbox = sb
	shell(t, sb, "/programs/load /root/load 7000 7001 </dev/null >/root/log 2>&1 &")
	for i, s := range servers {
		require.NoError(t, s.(*net.UnixListener).SetDeadline(time.Now().Add(5*patience)))
		c, err := s.Accept()
		require.NoError(t, err, "a stream of the guest")
		t.Cleanup(func() { _ = c.Close() })
		require.NoError(t, s.Close(), "no copy connects again")
		l.conns[i] = c
	}
	go func() { l.failed <- receive(l.conns[0], &l.up) }()
	go func() { l.failed <- send(l.conns[1], &l.down) }()
	l.loops = rounds(1, 3)
	for range l.loops {
		go func() { l.failed <- l.storm(ctx) }()
	}
	return l
}

// storm runs commands until ctx ends. While the source stands still for its copy they are refused.
func (l *loaded) storm(ctx context.Context) error {
	for {
		out, err := l.Exec(ctx, "echo", []string{"hello"})
		if msb.IsKind(err, msb.ErrSandboxPaused) {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if err != nil {
			return err
		}
		if out.Stdout() != "hello\n" || out.ExitCode() != 0 {
			return fmt.Errorf("exec says %q and %q, exit code %d", out.Stdout(), out.Stderr(), out.ExitCode())
		}
		l.execs.Add(1)
	}
}

// goesOn waits until each part of the load went on.
func (l *loaded) goesOn(t *testing.T) {
	t.Helper()
	up, down, execs := l.up.Load(), l.down.Load(), l.execs.Load()
	eventually(t, "the source's streams and commands go on", func() bool {
		select {
		case err := <-l.failed:
			require.NoError(t, err, "the source's stream or command")
		default:
		}
		return l.up.Load() > up && l.down.Load() > down && l.execs.Load() > execs
	})
}

// assertWhole checks a guest whose load ends, and stops it: how the streams ended, all files,
// of which there must be some, and its disk.
func assertWhole(t *testing.T, sb *msb.Sandbox, up, down string) {
	t.Helper()
	ctx := within(t, 3*patience)
	out, err := sb.Shell(ctx, `until [ -e /root/load/over ]; do sleep 0.2; done; cat /root/log /root/load/up /root/load/down
cd /root/load/sums && md5sum * | awk '$1 != $2 { print "not whole:", $2 } END { print NR ? "files" : "no files" }'
dmesg | grep -iE 'I/O error|EXT4-fs error|Oops|BUG:|stall|lockup|hung' || true`)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(out.Stdout()), "\n")
	require.Len(t, lines, 3, "%s%s", out.Stdout(), out.Stderr())
	assert.Contains(t, lines[0], up, "the stream to the host")
	assert.Contains(t, lines[1], down, "the stream from the host")
	assert.Equal(t, "files", lines[2])
	require.NoError(t, sb.Stop(ctx))
	assertClean(t, upperOf(sb))
}

// branch makes a copy, and lets the source stand still as soon as it was saved: emulated
// machines have no time for both.
func (l *loaded) branch(t *testing.T) *msb.Sandbox {
	t.Helper()
	name, ctx := newName(t), within(t, 3*patience)
	var all []*msb.Sandbox
	done := make(chan error, 1)
	go func() {
		var err error
		all, err = l.Branch(ctx, []string{name})
		done <- err
	}()
	eventually(t, "the copy starts", func() bool { return len(runtimes(t, name)) > 0 || len(done) > 0 })
	require.NoError(t, l.Pause(ctx))
	require.NoError(t, <-done)
	require.Len(t, all, 1)
	return all[0]
}

// TestCopiesUnderLoad makes copies of a sandbox that writes to its disk, has streams to and
// from the host, runs commands and has no idle processor.
func TestCopiesUnderLoad(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	source := newLoaded(ctx, t, rounds(1, 4))
	eventually(t, "there are files", func() bool { return shell(t, source.Sandbox, "ls /root/load/sums | wc -l") != "0" })
	count := rounds(1, 200)
	for i := range count {
		source.goesOn(t)
		began := time.Now()
		child := source.branch(t)
		took := time.Since(began)
		assertWhole(t, child, "reset: ", "reset: ")
		require.NoError(t, msb.RemoveSandbox(within(t, patience), child.Name()))
		require.NoError(t, source.Resume(within(t, patience)))
		t.Logf("copy %d of %d: branched in %v, looked at in %v; %d blocks up, %d down, %d commands", i+1, count,
			took.Round(time.Millisecond), (time.Since(began) - took).Round(time.Millisecond), source.up.Load(), source.down.Load(), source.execs.Load())
	}
	source.goesOn(t)
	source.assertUnharmed(t, cancel)
}

// assertUnharmed ends the load and checks the source.
func (l *loaded) assertUnharmed(t *testing.T, cancel context.CancelFunc) {
	t.Helper()
	cancel()
	for range l.loops {
		require.ErrorIs(t, <-l.failed, context.Canceled)
	}
	for _, c := range l.conns {
		require.NoError(t, c.Close())
	}
	for range l.conns {
		require.ErrorIs(t, <-l.failed, net.ErrClosed)
	}
	assertWhole(t, l.Sandbox, "reset: ", "ended after ")
}
