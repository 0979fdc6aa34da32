package microsandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

// write puts text into a disk of a running sandbox, as its guest would.
func write(t *testing.T, disk, text string) {
	t.Helper()
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte(text), 48<<20)
	require.NoError(t, errors.Join(err, f.Close()))
}

func read(t *testing.T, disk string, n int) string {
	t.Helper()
	f, err := os.Open(disk)
	require.NoError(t, err)
	b := make([]byte, n)
	_, err = f.ReadAt(b, 48<<20)
	require.NoError(t, errors.Join(err, f.Close()))
	return string(b)
}

func TestBranch(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := longContext(t)
	_, err := CreateVolume(ctx, "data", WithVolumeKind(VolumeKindDisk), WithVolumeSize(64))
	require.NoError(t, err)
	sb := create(t, "box", WithRootDisk(RootDisk.Managed(64)), WithPorts(map[uint16]uint16{0: 80}), WithLabel("tier", "db"), WithEphemeral(true),
		WithMounts(map[string]MountConfig{"/data": Mount.Named("data", MountOptions{})}))
	write(t, filepath.Join(h.sandbox("box"), upperName), "root")
	write(t, h.volumes().Disk("data"), "data")

	up, err := sb.Branch(ctx, []string{"a", "b"}, WithDetached(), WithLabel("kid", "1"))
	require.NoError(t, err)
	require.Len(t, up, 2)
	tidy(t, up...)
	assert.Equal(t, []string{"a", "b"}, []string{up[0].Name(), up[1].Name()})
	for _, kid := range up {
		out, err := kid.Exec(ctx, "echo", []string{"hello"})
		require.NoError(t, err)
		assert.Equal(t, "hello\n", out.Stdout())
		dir := h.sandbox(kid.Name())
		assert.Equal(t, "root", read(t, filepath.Join(dir, upperName), 4))
		assert.Equal(t, "data", read(t, filepath.Join(dir, "disk-2.raw"), 4))
		assert.NoFileExists(t, filepath.Join(dir, unbornName))
		handle, err := GetSandbox(ctx, kid.Name())
		require.NoError(t, err)
		c, err := handle.Config()
		require.NoError(t, err)
		assert.Empty(t, c.PortBindings)
		assert.Equal(t, map[string]string{"tier": "db", "kid": "1"}, c.Labels)
		assert.False(t, c.Ephemeral)
		assert.Equal(t, filepath.Join(dir, "disk-2.raw"), c.Volumes["/data"].Disk)
		owns, err := kid.OwnsLifecycle()
		require.NoError(t, err)
		assert.False(t, owns)
	}
	assert.Equal(t, SandboxStatusRunning, status(t, "box"))
	left, err := os.ReadDir(h.checkpoints())
	require.NoError(t, err)
	assert.Empty(t, left)

	// A copy can be copied, and starts anew like any sandbox.
	again, err := up[0].Branch(ctx, []string{"c"})
	require.NoError(t, err)
	tidy(t, again...)
	owns, err := again[0].OwnsLifecycle()
	require.NoError(t, err)
	assert.True(t, owns)
	require.NoError(t, again[0].Stop(ctx))
	cold, err := StartSandbox(ctx, "c")
	require.NoError(t, err)
	tidy(t, cold)
	assert.Equal(t, "data", read(t, filepath.Join(h.sandbox("c"), "disk-2.raw"), 4))

	// One that stands still stays so.
	require.NoError(t, sb.Pause(ctx))
	more, err := sb.Branch(ctx, []string{"d"})
	require.NoError(t, err)
	tidy(t, more...)
	assert.Equal(t, SandboxStatusPaused, status(t, "box"))
	_, err = more[0].Ping(ctx)
	require.NoError(t, err)
}

func TestBranchRefusals(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	sb := create(t, "box", WithRootDisk(RootDisk.Managed(64)))
	create(t, "other")
	_, err := sb.Branch(ctx, []string{"a", "other"})
	require.True(t, IsKind(err, ErrSandboxAlreadyExists), "%v", err)
	_, err = sb.Branch(ctx, []string{"a"}, WithMemory(1024))
	require.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
	assert.Equal(t, "gone", string(status(t, "a")))
	handle, err := GetSandbox(ctx, "box")
	require.NoError(t, err)

	// A runtime of another make, or an older one, has no such thing.
	socket := string(h.control("box"))
	require.NoError(t, os.Rename(socket, socket+".away"))
	_, err = handle.Branch(ctx, []string{"a"})
	require.True(t, IsKind(err, ErrUnsupportedOperation), "%v", err)
	assert.ErrorContains(t, err, "another one than gomsb")
	require.NoError(t, os.Rename(socket+".away", socket))

	require.NoError(t, sb.Stop(ctx))
	_, err = handle.Branch(ctx, []string{"a"})
	require.True(t, IsKind(err, ErrSandboxNotRunning), "%v", err)
	require.NoError(t, handle.Remove(ctx))
	_, err = handle.Branch(ctx, []string{"a"})
	require.True(t, IsKind(err, ErrSandboxNotFound), "%v", err)
}

// Of copies that do not come up nothing is left; the others run.
func TestBranchFailsInPart(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := longContext(t)
	sb := create(t, "box", WithRootDisk(RootDisk.Managed(64)))
	// Something is where the sandbox's directory of sockets has to be.
	run := filepath.Join(h.run(), "sandboxes")
	socket := string(h.control("bad"))
	require.Equal(t, run, filepath.Dir(filepath.Dir(socket)))
	require.NoError(t, os.WriteFile(filepath.Dir(socket), nil, 0o600))
	up, err := sb.Branch(ctx, []string{"good", "bad"})
	tidy(t, up...)
	var failed *BranchError
	require.ErrorAs(t, err, &failed)
	require.Len(t, up, 1)
	assert.Equal(t, []string{"good"}, failed.Up)
	require.Len(t, failed.Failed, 1)
	assert.Equal(t, "bad", failed.Failed[0].Name)
	assert.True(t, strings.HasPrefix(err.Error(), "1 of 2 copies of sandbox box did not come up (good run): bad: "), "%v", err)
	assert.Equal(t, "gone", string(status(t, "bad")))
	assert.NoDirExists(t, h.sandbox("bad"))
	_, err = up[0].Ping(ctx)
	require.NoError(t, err)
}

// When the caller does not want to wait, nothing is left.
func TestBranchIsCancelled(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	sb := create(t, "box", WithRootDisk(RootDisk.Managed(64)))
	runtimetest.Use(t, runtimetest.Guest{NeverReady: true}) // the copies
	for _, wait := range []string{h.checkpoints(), h.sandbox("a")} {
		ctx, cancel := context.WithCancel(longContext(t))
		done := make(chan error, 1)
		go func() {
			_, err := sb.Branch(ctx, []string{"a", "b"})
			done <- err
		}()
		require.Eventually(t, func() bool {
			entries, err := os.ReadDir(wait)
			return err == nil && len(entries) > 0
		}, time.Minute, time.Millisecond)
		cancel()
		err := <-done
		require.True(t, IsKind(err, ErrCancelled), "%v", err)
		for _, name := range []string{"a", "b"} {
			assert.Equal(t, "gone", string(status(t, name)))
			assert.NoDirExists(t, h.sandbox(name))
		}
		left, err := os.ReadDir(h.checkpoints())
		require.NoError(t, err)
		assert.Empty(t, left)
	}
	_, err := sb.Ping(testContext(t))
	require.NoError(t, err)
}

// A copy that never came up is nothing: who looks for it finds and leaves nothing.
func TestUnbornSandboxes(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	sb := create(t, "a", WithRootDisk(RootDisk.Managed(64)))
	require.NoError(t, sb.Stop(ctx))
	require.NoError(t, os.WriteFile(filepath.Join(h.sandbox("a"), unbornName), nil, 0o600))
	_, err := StartSandbox(ctx, "a")
	require.True(t, IsKind(err, ErrSandboxNotFound), "%v", err)
	assert.NoDirExists(t, h.sandbox("a"))

	stale := filepath.Join(h.checkpoints(), nurseryPrefix+"x", "saved")
	require.NoError(t, os.MkdirAll(stale, 0o700))
	create(t, "b")
	assert.NoDirExists(t, filepath.Dir(stale), "whoever makes a sandbox clears away what a dead controller left")
}
