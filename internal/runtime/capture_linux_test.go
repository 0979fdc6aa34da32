package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/internal/checkpoint"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/store"
	"github.com/gomsb/gomsb/snapshot/format"
)

// save asks for a checkpoint at dir.
func (p *process) save(dir string) string {
	p.home.t.Helper()
	return strings.TrimSpace(askControl(p.home.t, launch.ControlSocket(p.home.config.AgentSock), request(dir)))
}

func request(dir string) string { return `{"op":"checkpoint","dir":"` + dir + `"}` + "\n" }

// startSaving asks for a checkpoint and leaves it at that.
func (p *process) startSaving(dir string) net.Conn {
	p.home.t.Helper()
	c, err := net.Dial("unix", launch.ControlSocket(p.home.config.AgentSock))
	require.NoError(p.home.t, err)
	p.home.t.Cleanup(func() { _ = c.Close() })
	_, err = c.Write([]byte(request(dir)))
	require.NoError(p.home.t, err)
	return c
}

func assertEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
	}
	assert.Empty(t, left)
}

func TestCheckpoint(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	require.NoError(t, os.WriteFile(*h.config.Rootfs.Disk, []byte(strings.Repeat("x", 4096)), 0o600))
	p := h.spawn(fakePlan{Busy: 1})
	c := p.dial()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cat, err := c.Exec(ctx, client.Command{Name: "cat"})
	require.NoError(t, err)
	parent := filepath.Join(h.dir, "saved")
	one := filepath.Join(parent, "one")
	require.Equal(t, granted, p.save(one))
	m, err := checkpoint.Open(one)
	require.NoError(t, err)
	require.NoError(t, m.Verify(ctx, one))
	assert.Equal(t, sandboxName, m.Source)
	assert.Equal(t, []bool{false}, m.ReadOnly)
	assert.True(t, m.Stats && m.Disks[0].Own && m.Disks[0].Format == "raw")
	content, err := os.ReadFile(m.Disks[0].Path(one))
	require.NoError(t, err)
	assert.Equal(t, strings.Repeat("x", 4096), string(content))
	saved, err := format.Open(ctx, checkpoint.MachineDir(one))
	require.NoError(t, err)
	assert.Equal(t, format.Full, saved.Header().Kind)
	require.NoError(t, saved.Close())
	assert.Contains(t, h.log("runtime.log"), "stood_still=")

	passing := filepath.Join(parent, "passing")
	require.Equal(t, granted, strings.TrimSpace(askControl(t, launch.ControlSocket(h.config.AgentSock), `{"op":"checkpoint","dir":"`+passing+`","passing":true}`+"\n")))
	m, err = checkpoint.Open(passing)
	require.NoError(t, err)
	assert.Zero(t, m.Disks[0].Sum, "nobody has read the disk")
	content, err = os.ReadFile(m.Disks[0].Path(passing))
	require.NoError(t, err)
	assert.Equal(t, strings.Repeat("x", 4096), string(content))
	saved, err = format.Open(ctx, checkpoint.MachineDir(passing))
	require.NoError(t, err)
	assert.ErrorIs(t, saved.Verify(ctx), format.ErrDamaged, "there are no checksums")
	require.NoError(t, saved.Close())
	require.NoError(t, os.RemoveAll(passing))

	assert.Contains(t, p.save(one), "choose another")
	assert.Contains(t, p.save("near"), "absolute path")
	_, err = cat.Write([]byte("it goes on"))
	require.NoError(t, err)
	event, err := cat.Recv(ctx)
	require.NoError(t, err)
	assert.Equal(t, "it goes on", string(event.Data))

	require.Equal(t, granted, p.ask("pause"))
	require.Equal(t, granted, p.save(filepath.Join(parent, "paused")))
	assert.Equal(t, p.PID(), launch.PausedBy(h.config.AgentSock), "the user's pause stays")
	require.Equal(t, granted, p.ask("resume"))

	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		wg.Go(func() { assert.Equal(t, granted, p.save(filepath.Join(parent, name))) })
	}
	wg.Wait()
	left, err := os.ReadDir(parent)
	require.NoError(t, err)
	assert.Len(t, left, 5)
	require.NoError(t, shutdown(c))
	assert.Equal(t, 0, p.code())
	h.assertNothingLeft()
}

func TestCheckpointsThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		plan fakePlan
		says string
	}{
		"busy for ever": {fakePlan{Busy: 1 << 20}, "try again"},
		"a full disk":   {fakePlan{CaptureFull: true}, "make room"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			p := h.spawn(c.plan)
			conn := p.dial()
			assert.Contains(t, p.save(filepath.Join(h.dir, "saved", "one")), c.says)
			assertEmpty(t, filepath.Join(h.dir, "saved"))
			assert.Contains(t, h.log("kernel.log"), "given up", "what was prepared is not kept")
			assert.Equal(t, "hello\n", p.do(conn, "echo hello"), "it runs on")
			require.NoError(t, shutdown(conn))
			assert.Equal(t, 0, p.code())
			h.assertNothingLeft()
		})
	}
	t.Run("the guest never comes up", func(t *testing.T) {
		t.Parallel()
		h := newHome(t)
		p := h.spawn(fakePlan{NeverReady: true})
		require.Eventually(t, func() bool {
			_, err := os.Stat(launch.ControlSocket(h.config.AgentSock))
			return err == nil
		}, patience, 10*time.Millisecond)
		assert.Contains(t, p.save(filepath.Join(h.dir, "saved", "one")), "not ready yet")
		require.NoError(t, p.Signal(syscall.SIGTERM))
		p.code()
	})
}

// Whatever ends a capture leaves nothing of it.
func TestEndsOfCheckpoints(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end    func(*process, *client.Client, net.Conn) error
		reason store.Reason // nothing: it goes on
	}{
		"the client hangs up": {func(_ *process, _ *client.Client, asker net.Conn) error { return asker.Close() }, ""},
		"asked":               {func(_ *process, c *client.Client, _ net.Conn) error { return shutdown(c) }, store.ShutdownRequested},
		"SIGTERM":             {func(p *process, _ *client.Client, _ net.Conn) error { return p.Signal(syscall.SIGTERM) }, store.Signal},
		"twice": {func(p *process, _ *client.Client, _ net.Conn) error {
			return errors.Join(p.Signal(syscall.SIGTERM), p.Signal(syscall.SIGTERM))
		}, store.Signal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			p := h.spawn(fakePlan{CaptureHangs: true})
			conn := p.dial()
			parent := filepath.Join(h.dir, "saved")
			asker := p.startSaving(filepath.Join(parent, "one"))
			require.Eventually(t, func() bool { return strings.Contains(h.log("kernel.log"), "it is saved") }, patience, 10*time.Millisecond)
			require.NoError(t, c.end(p, conn, asker))
			if c.reason == "" {
				require.Eventually(t, func() bool { return strings.Contains(h.log("runtime.log"), "was not saved") }, patience, 10*time.Millisecond)
				assert.Equal(t, "hello\n", p.do(conn, "echo hello"), "it runs on")
				require.NoError(t, shutdown(conn))
			}
			assert.Equal(t, 0, p.code())
			row, run := h.rows()
			assert.Equal(t, store.Stopped, row.Status)
			if c.reason != "" {
				assert.Equal(t, c.reason, run.Reason)
			}
			assertEmpty(t, parent)
			h.assertNothingLeft()
		})
	}
}

// The answer to a withdrawn request comes when nothing is left of it.
func TestWithdrawnCheckpoint(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.spawn(fakePlan{CaptureHangs: true})
	conn := p.dial()
	parent := filepath.Join(h.dir, "saved")
	answer := askControl(t, launch.ControlSocket(h.config.AgentSock), request(filepath.Join(parent, "one"))+"what\n"+`{"op":"cancel"}`+"\n")
	assertEmpty(t, parent)
	assert.Contains(t, answer, "the client has withdrawn it")
	assert.Equal(t, "hello\n", p.do(conn, "echo hello"), "it runs on")
	require.NoError(t, shutdown(conn))
	assert.Equal(t, 0, p.code())
}

// The guest of a copy serves already; it only hears who it is now.
func TestRestoredGuest(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.config.Bootstrap.Hostname = "kid"
	h.config.Startup = &launch.Startup{Cmd: "exit", Args: []string{"3"}}
	h.options = func(o *launch.Options) { o.Restore = filepath.Join(h.dir, "saved") }
	p := h.spawn(fakePlan{})
	c := p.dial()
	renewed := p.do(c, "renewed")
	var n struct {
		Hostname, HostAlias string
		Network             json.RawMessage
	}
	require.NoError(t, json.Unmarshal([]byte(renewed), &n))
	assert.Equal(t, "kid", n.Hostname)
	assert.NotEmpty(t, n.HostAlias)
	assert.NotEqual(t, "null", string(n.Network))
	require.NoError(t, shutdown(c))
	assert.Equal(t, 0, p.code(), "the command of the start goes on in the copy, and is not run again")
	h.assertNothingLeft()
}

func TestFit(t *testing.T) {
	t.Parallel()
	built := func() MachineConfig {
		return MachineConfig{
			VCPUs: 1, MaxVCPUs: 2, MemoryMiB: 256, MaxMemoryMiB: 512, Net: &Net{MAC: [6]byte{2, 1}, MTU: 1500}, Templates: "/cache",
			Disks: []Disk{{ReadOnly: true}, {}}, Shares: []Share{{Tag: runtimeTag}, {Tag: "msb_share_1", Name: "data"}}, StatsInterval: defaultStats,
		}
	}
	source := built()
	saved := source.Manifest()
	child := built()
	child.Templates, child.Net.MAC, child.Net.MTU, child.StatsInterval = "", [6]byte{2, 2}, 1400, 0
	child.Shares[1] = Share{Tag: "data"}
	require.NoError(t, child.fit(&saved))
	assert.Equal(t, saved.Shares, child.savedShares())
	assert.Equal(t, saved.Net, child.card(), "the card is what it was")
	assert.Equal(t, defaultStats, child.StatsInterval)
	assert.Equal(t, "msb_share_1", child.tagOf("data"))
	again := child.Manifest()
	again.Created = saved.Created
	assert.Equal(t, saved, again, "a copy of a copy")
	saved.Stats = false
	require.NoError(t, child.fit(&saved))
	assert.Zero(t, child.StatsInterval)

	for name, change := range map[string]func(*MachineConfig){
		"number of processors": func(m *MachineConfig) { m.MaxVCPUs = 3 },
		"memory":               func(m *MachineConfig) { m.MemoryMiB = 128 },
		"list of disks":        func(m *MachineConfig) { m.Disks[0].ReadOnly = false },
		"list of shares":       func(m *MachineConfig) { m.Shares[1].Name = "other" },
		"network":              func(m *MachineConfig) { m.Net = nil },
	} {
		m := built()
		change(&m)
		err := m.fit(&saved)
		require.ErrorIs(t, err, checkpoint.ErrMismatch, name)
		assert.ErrorContains(t, err, "its "+name)
		assert.ErrorContains(t, err, adviceSettings)
	}
}
