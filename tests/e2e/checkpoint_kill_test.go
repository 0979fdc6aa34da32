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
	"strings"
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

// TestKilledWhileSaved kills runtimes at some point of a capture: what has the name of a
// checkpoint is one, and nothing else is left for long.
func TestKilledWhileSaved(t *testing.T) {
	sb := create(t)
	parent := t.TempDir()
	took := time.Second
	for i := range 1 + rounds(2, 50) {
		dir := filepath.Join(parent, "saved")
		agent, err := launch.AgentSocket(homePath("run"), sb.Name())
		require.NoError(t, err)
		c, err := net.Dial("unix", launch.ControlSocket(agent))
		require.NoError(t, err)
		began := time.Now()
		passing := i%2 == 1 // as branches have it
		_, err = fmt.Fprintf(c, `{"op":"checkpoint","dir":%q,"passing":%t}`+"\n", dir, passing)
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
			if !passing { // others have no checksums
				require.NoError(t, m.Verify(t.Context(), dir))
			}
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

// TestBranchKilled kills msb branch at some moment: each copy runs, or nothing is left of it.
func TestBranchKilled(t *testing.T) {
	source := create(t)
	took := time.Duration(0)
	there, none := 0, 0
	for i := range 1 + rounds(2, 50) {
		names := []string{newName(t), newName(t)}
		cmd := command(t, "branch", source.Name(), "--names", strings.Join(names, ","))
		began := time.Now()
		require.NoError(t, cmd.Start())
		if i > 0 { // the first one shows how long it takes
			time.Sleep(rand.N(took))
			_ = cmd.Process.Kill() // it may have ended
		}
		err := cmd.Wait()
		if i == 0 {
			require.NoError(t, err)
			took = time.Since(began)
		}
		for _, name := range names {
			if isWhole(t, name) {
				there++
			} else {
				none++
			}
		}
		assert.Equal(t, "unharmed", shell(t, source, "echo unharmed"))
	}
	t.Logf("of %d copies %d run", there+none, there)
	last, err := source.Branch(within(t, 3*patience), []string{newName(t)})
	branched(t, last)
	require.NoError(t, err)
	left, err := os.ReadDir(homePath("cache", "gomsb", "checkpoints"))
	require.NoError(t, err)
	assert.Empty(t, left, "what the killed ones left is gone")
}

// isWhole tells whether there is a copy whose maker is gone, which runs then, and removes it.
// Of one that is not there, nothing is.
func isWhole(t *testing.T, name string) (there bool) {
	t.Helper()
	ctx := within(t, 3*patience)
	eventually(t, "the copy answers, or is not there", func() bool {
		h, err := msb.GetSandbox(ctx, name)
		if there = !msb.IsKind(err, msb.ErrSandboxNotFound); !there {
			return true
		}
		require.NoError(t, err)
		_, err = h.Ping(ctx)
		return err == nil
	})
	if there {
		out, err := hostnameOf(ctx, name)
		require.NoError(t, err)
		require.Equal(t, name+"\n", out)
		cleanUp(t, name)
	}
	eventually(t, "the runtime ends", func() bool { return len(runtimes(t, name)) == 0 })
	assert.NoDirExists(t, homePath("sandboxes", name))
	return there
}

// hostnameOf is what a sandbox that runs calls itself.
func hostnameOf(ctx context.Context, name string) (string, error) {
	h, err := msb.GetSandbox(ctx, name)
	if err != nil {
		return "", err
	}
	sb, err := h.Connect(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = sb.Close() }()
	out, err := sb.Exec(ctx, "hostname", nil)
	if err != nil {
		return "", err
	}
	return out.Stdout(), nil
}

// TestSavedToAFullDisk has no room for a checkpoint, and then has.
func TestSavedToAFullDisk(t *testing.T) {
	sb := create(t)
	small := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", small, "tmpfs", 0, "size=3m"))
	t.Cleanup(func() { _ = unix.Unmount(small, unix.MNT_DETACH) })
	save := func(passing bool) launch.ControlReply {
		return askRuntime(t, sb.Name(), map[string]any{"op": "checkpoint", "dir": filepath.Join(small, "saved"), "passing": passing})
	}
	for _, passing := range []bool{false, true} {
		r := save(passing)
		assert.False(t, r.OK)
		assert.Contains(t, r.Error, "no space left on device")
		assert.Contains(t, r.Error, "make room")
		left, err := os.ReadDir(small)
		require.NoError(t, err)
		assert.Empty(t, left)
		assert.Equal(t, "unharmed", shell(t, sb, "echo unharmed"))
	}
	require.NoError(t, unix.Mount("tmpfs", small, "tmpfs", unix.MS_REMOUNT, "size=512m"))
	r := save(false)
	assert.True(t, r.OK, r.Error)
	require.NoError(t, sb.Stop(within(t, patience)))
	assertClean(t, upperOf(sb))
}
