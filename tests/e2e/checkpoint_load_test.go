//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/internal/checkpoint"
	"github.com/gomsb/gomsb/internal/launch"
	msb "github.com/gomsb/gomsb/sdk"
	"github.com/gomsb/gomsb/snapshot/format"
)

// rounds is how often something is done that takes long: few times, or many if all is to be
// done.
func rounds(few, many int) int {
	if os.Getenv(fullEnv) != "" {
		return many
	}
	return few
}

// writer writes files with fsync, whose names are their checksums.
const writer = `mkdir -p /root/sums; cd /root/sums; (while :; do
dd if=/dev/urandom of=/root/new bs=64k count=1 conv=fsync 2>/dev/null; set -- $(md5sum /root/new); mv /root/new /root/sums/$1
[ $(ls /root/sums | wc -l) -lt 50 ] || rm /root/sums/*
done) </dev/null >/dev/null 2>&1 &`

// echo sends blocks through a command until ctx ends and checks that they come back.
func echo(ctx context.Context, sb *msb.Sandbox, blocks *atomic.Int64) error {
	h, err := sb.ExecStream(ctx, "cat", nil, msb.WithExecStdinPipe())
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }()
	in := h.TakeStdin()
	var back bytes.Buffer
	for i := 0; ctx.Err() == nil; i++ {
		block := bytes.Repeat([]byte(fmt.Sprintf("%08d", i)), 1024)
		if _, err := in.Write(block); err != nil {
			return err
		}
		for back.Len() < len(block) {
			e, err := h.Recv(ctx)
			if err != nil {
				return err
			}
			back.Write(e.Data)
		}
		if got := back.Next(len(block)); !bytes.Equal(got, block) {
			return fmt.Errorf("block %d came back as %.20q", i, got)
		}
		blocks.Add(1)
	}
	return nil
}

// TestCopiesUnderLoad makes copies of a sandbox that writes to its disk, talks to the host
// and has no idle processor.
func TestCopiesUnderLoad(t *testing.T) {
	cpus := rounds(1, 4)
	source := create(t, msb.WithCPUs(uint8(cpus)))
	shell(t, source, writer+fmt.Sprintf("\nfor i in $(seq %d); do (while :; do :; done) </dev/null >/dev/null 2>&1 & done", cpus))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var blocks, execs atomic.Int64
	failed := make(chan error, 2)
	go func() { failed <- echo(ctx, source, &blocks) }()
	go func() {
		for ctx.Err() == nil {
			out, err := source.Shell(ctx, "echo hello")
			if err == nil && out.Stdout() != "hello\n" {
				err = fmt.Errorf("exec says %q and %q, exit code %d", out.Stdout(), out.Stderr(), out.ExitCode())
			}
			if err != nil {
				failed <- err
				return
			}
			execs.Add(1)
		}
		failed <- nil
	}()
	eventually(t, "there are files", func() bool { return shell(t, source, "ls /root/sums | wc -l") != "0" })
	for range rounds(1, 200) {
		b, e := blocks.Load(), execs.Load()
		child := branch(t, source)
		shell(t, child, "cd /root/sums; for f in *; do [ $f = '*' ] || [ $(md5sum < $f | cut -c1-32) = $f ] || exit 1; done")
		assert.Empty(t, shell(t, child, "dmesg | grep -iE 'I/O error|EXT4-fs error|Oops' || true"))
		require.NoError(t, child.Stop(within(t, patience)))
		assertClean(t, upperOf(child))
		require.NoError(t, msb.RemoveSandbox(within(t, patience), child.Name()))
		eventually(t, "the source's streams go on", func() bool { return blocks.Load() > b && execs.Load() > e })
	}
	cancel()
	for range 2 {
		if err := <-failed; err != nil {
			require.ErrorIs(t, err, context.Canceled)
		}
	}
	assert.Empty(t, shell(t, source, "dmesg | grep -iE 'I/O error|EXT4-fs error|Oops' || true"))
	require.NoError(t, source.Stop(within(t, patience)))
	assertClean(t, upperOf(source))
}

// TestKilledWhileSaved kills runtimes at some point of a capture: what has the name of a
// checkpoint is one, and nothing else is left for long.
func TestKilledWhileSaved(t *testing.T) {
	sb := create(t)
	parent := t.TempDir()
	took := time.Second
	for i := range rounds(3, 50) {
		dir := filepath.Join(parent, "saved")
		agent, err := launch.AgentSocket(homePath("run"), sb.Name())
		require.NoError(t, err)
		c, err := net.Dial("unix", launch.ControlSocket(agent))
		require.NoError(t, err)
		began := time.Now()
		_, err = fmt.Fprintf(c, `{"op":"checkpoint","dir":%q}`+"\n", dir)
		require.NoError(t, err)
		if i > 0 { // the first one shows how long it takes
			time.Sleep(rand.N(took))
			pids := runtimes(t, sb.Name())
			require.Len(t, pids, 1)
			require.NoError(t, syscall.Kill(pids[0], syscall.SIGKILL))
		}
		answer, _ := io.ReadAll(c)
		require.NoError(t, c.Close())
		if i == 0 {
			require.Equal(t, `{"ok":true}`, string(bytes.TrimSpace(answer)))
			took = time.Since(began)
		}
		m, err := checkpoint.Open(dir)
		if err != nil {
			require.ErrorIs(t, err, os.ErrNotExist)
		} else {
			require.NoError(t, m.Verify(t.Context(), dir))
			f, err := format.Open(t.Context(), checkpoint.MachineDir(dir))
			require.NoError(t, err)
			require.NoError(t, f.Close())
			require.NoError(t, os.RemoveAll(dir))
		}
		if i == 0 {
			continue
		}
		eventually(t, "the sandbox counts as crashed", func() bool { return status(t, sb.Name()) == msb.SandboxStatusCrashed })
		sb = start(t, sb.Name())
	}
	r := askRuntime(t, sb.Name(), map[string]string{"op": "checkpoint", "dir": filepath.Join(parent, "saved")})
	require.True(t, r.OK, r.Error)
	left, err := os.ReadDir(parent)
	require.NoError(t, err)
	assert.Len(t, left, 1, "what the killed ones left is gone")
	require.NoError(t, sb.Stop(within(t, patience)))
	assertClean(t, upperOf(sb))
}

// TestSavedToAFullDisk has no room for a checkpoint, and then has.
func TestSavedToAFullDisk(t *testing.T) {
	sb := create(t)
	small := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", small, "tmpfs", 0, "size=12m"))
	t.Cleanup(func() { _ = unix.Unmount(small, unix.MNT_DETACH) })
	save := func() launch.ControlReply {
		return askRuntime(t, sb.Name(), map[string]string{"op": "checkpoint", "dir": filepath.Join(small, "saved")})
	}
	r := save()
	assert.False(t, r.OK)
	assert.Contains(t, r.Error, "no space left on device")
	assert.Contains(t, r.Error, "make room")
	left, err := os.ReadDir(small)
	require.NoError(t, err)
	assert.Empty(t, left)
	assert.Equal(t, "unharmed", shell(t, sb, "echo unharmed"))
	require.NoError(t, unix.Mount("tmpfs", small, "tmpfs", unix.MS_REMOUNT, "size=512m"))
	r = save()
	assert.True(t, r.OK, r.Error)
	require.NoError(t, sb.Stop(within(t, patience)))
	assertClean(t, upperOf(sb))
}
