package microsandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	"github.com/gomsb/gomsb/snapshot"
)

// fullSnapshot makes a full snapshot of a running sandbox.
func fullSnapshot(t *testing.T, sandbox, name string) *SnapshotArtifact {
	t.Helper()
	s, err := Snapshot.Create(longContext(t), SnapshotCreateOptions{Name: name, FromSandbox: sandbox, Resumable: true, RecordIntegrity: true})
	require.NoError(t, err)
	return s
}

func TestFullSnapshot(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := longContext(t)
	data := filepath.Join(t.TempDir(), "data.raw")
	require.NoError(t, os.WriteFile(data, make([]byte, 64<<20), 0o600))
	sb := create(t, "box", WithRootDisk(RootDisk.Managed(64)), WithMounts(map[string]MountConfig{"/data": Mount.Disk(data, DiskOptions{Fstype: "ext4"})}))
	write(t, filepath.Join(h.sandbox("box"), upperName), "then")
	write(t, data, "also")
	s := fullSnapshot(t, "box", "warm")
	write(t, filepath.Join(h.sandbox("box"), upperName), "now ")
	_, err := sb.Ping(ctx)
	require.NoError(t, err, "it goes on")

	m := s.Memory()
	require.NotNil(t, m)
	assert.Equal(t, []int{1, 512}, []int{m.VCPUs, m.MemoryMiB})
	assert.Positive(t, m.SizeBytes)
	assert.Equal(t, []any{"disk", "file"}, []any{s.Scope(), s.State().Kind}, "as every release reads it")
	assert.Equal(t, "then", read(t, filepath.Join(s.Path(), upperName), 4))
	r, err := s.Verify(ctx)
	require.NoError(t, err)
	assert.Equal(t, []string{SnapshotVerified, SnapshotVerified}, []string{r.Upper.Kind, r.Memory})
	list, err := Snapshot.List(ctx)
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, m, list[0].Memory())
	assert.Equal(t, []string{"disk", "file"}, []string{list[0].Scope(), list[0].StateKind()})
	assert.Nil(t, list[0].CheckpointManifestDigest())

	// It goes on as another sandbox, as often as one likes.
	require.NoError(t, sb.Stop(ctx))
	one, err := Restore(ctx, "warm", "one", WithDetached())
	require.NoError(t, err)
	two, err := CreateSandbox(ctx, "two", WithFromSnapshot("warm"), WithPullPolicy(PullPolicyNever))
	require.NoError(t, err)
	tidy(t, one, two)
	for _, kid := range []string{"one", "two"} {
		assert.Equal(t, "then", read(t, filepath.Join(h.sandbox(kid), upperName), 4))
		assert.Equal(t, "also", read(t, filepath.Join(h.sandbox(kid), "disk-2.raw"), 4))
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", runtimePID(t, h, kid)))
		require.NoError(t, err)
		assert.Contains(t, string(line), "--restore\x00"+filepath.Join(s.Path(), "checkpoint"))
	}
	_, err = Restore(ctx, "warm", "one")
	require.True(t, IsKind(err, ErrSandboxAlreadyExists), "%v", err)
	_, err = Restore(ctx, "warm", "three", WithCPUs(2))
	require.True(t, IsKind(err, ErrInvalidConfig), "%v", err)

	// The disk alone boots, with what the image says.
	cold, err := Restore(ctx, "warm", "cold", WithDiskOnly(), WithCPUs(2))
	require.NoError(t, err)
	tidy(t, cold)
	assert.Equal(t, "then", read(t, filepath.Join(h.sandbox("cold"), upperName), 4))
	handle, err := GetSandbox(ctx, "cold")
	require.NoError(t, err)
	c, err := handle.Config()
	require.NoError(t, err)
	assert.NotContains(t, c.Volumes, "/data")
	assert.EqualValues(t, 2, c.CPUs)

	// One of a disk has no memory.
	stopped(t, h, "still")
	snapshotOf(t, "still", "plain")
	_, err = Restore(ctx, "plain", "x")
	require.True(t, IsKind(err, ErrUnsupportedOperation), "%v", err)
	assert.ErrorContains(t, err, "no memory")
	_, err = Snapshot.Create(ctx, SnapshotCreateOptions{Name: "y", FromSandbox: "still", Resumable: true})
	require.True(t, IsKind(err, ErrSandboxNotRunning), "%v", err)
	assert.NoDirExists(t, h.path("snapshots", "y"))
	require.NoError(t, Snapshot.Remove(ctx, "warm", false))
	assert.NoDirExists(t, s.Path())
	_, err = one.Ping(ctx)
	require.NoError(t, err, "those who go on do not need it")
}

// A full snapshot travels, and what it wants of another host is asked for.
func TestFullSnapshotTravels(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := longContext(t)
	shared := t.TempDir()
	create(t, "box", WithRootDisk(RootDisk.Managed(64)), WithMounts(map[string]MountConfig{"/s": Mount.Bind(shared, MountOptions{})}))
	s := fullSnapshot(t, "box", "warm")
	archive := filepath.Join(t.TempDir(), "warm.tar.zst")
	require.NoError(t, Snapshot.Save(ctx, "warm", archive, SnapshotSaveOptions{WithImage: true}))
	diskOnly := filepath.Join(t.TempDir(), "disk.tar.zst")
	require.NoError(t, Snapshot.Save(ctx, "warm", diskOnly, SnapshotSaveOptions{DiskOnly: true}))
	kid, err := Restore(ctx, "warm", "here")
	require.NoError(t, err, "this host made it")
	tidy(t, kid)

	loaded, err := Snapshot.Load(ctx, archive, filepath.Join(h.root, "elsewhere"))
	require.NoError(t, err)
	assert.Equal(t, s.Digest(), loaded.Digest())
	require.NotNil(t, loaded.Memory())
	assert.FileExists(t, filepath.Join(loaded.Path(), "checkpoint", "machine", "seal"), "nobody has to read all of it again")
	_, err = Restore(ctx, loaded.Path(), "there")
	require.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
	assert.ErrorContains(t, err, shared+" of this host on /s")
	kid, err = Restore(ctx, loaded.Path(), "there", WithTrustedConfig())
	require.NoError(t, err)
	tidy(t, kid)

	loaded, err = Snapshot.Load(ctx, diskOnly, filepath.Join(h.root, "disks"))
	require.NoError(t, err)
	assert.Nil(t, loaded.Memory())
	_, err = Restore(ctx, loaded.Path(), "x")
	require.True(t, IsKind(err, ErrUnsupportedOperation), "%v", err)
	assert.ErrorContains(t, err, "saved or copied without")
	kid, err = CreateSandbox(ctx, "booted", WithFromSnapshot(loaded.Path()))
	require.NoError(t, err)
	tidy(t, kid)
}

// What is damaged is found before anything is made of it.
func TestDamagedFullSnapshots(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := longContext(t)
	create(t, "box", WithRootDisk(RootDisk.Managed(64)))
	s := fullSnapshot(t, "box", "warm")
	at := filepath.Join(s.Path(), snapshot.CheckpointName)
	flip := func(name string) {
		path := filepath.Join(at, name)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		b[len(b)/2] ^= 1
		require.NoError(t, os.WriteFile(path, b, 0o600))
	}
	for _, name := range []string{savedName, "manifest.json", "machine/machine"} {
		flip(name)
		_, err := Restore(ctx, "warm", "x")
		require.True(t, IsKind(err, ErrSnapshotIntegrity), "%s: %v", name, err)
		assert.ErrorContains(t, err, name)
		_, err = s.Verify(ctx)
		require.True(t, IsKind(err, ErrSnapshotIntegrity), "%s: %v", name, err)
		flip(name)
	}
	_, err := s.Verify(ctx)
	require.NoError(t, err)
	flip("machine/memory")
	_, err = s.Verify(ctx)
	require.True(t, IsKind(err, ErrSnapshotIntegrity), "%v", err)
	flip("machine/memory")
	write(t, filepath.Join(s.Path(), upperName), "otherwise")
	_, err = s.Verify(ctx)
	require.True(t, IsKind(err, ErrSnapshotIntegrity), "%v", err)
	assert.Equal(t, "gone", string(status(t, "x")))

	// Somebody else's sandbox under our description.
	text, err := os.ReadFile(filepath.Join(at, savedName))
	require.NoError(t, err)
	var saved savedSandbox
	require.NoError(t, json.Unmarshal(text, &saved))
	a, err := snapshot.Open(s.Path())
	require.NoError(t, err)
	require.NoError(t, saved.check(a))
	for name, change := range map[string]func(*savedSandbox){
		"no configuration": func(s *savedSandbox) { s.Config = json.RawMessage(`7`) },
		"another image": func(s *savedSandbox) {
			s.Config = json.RawMessage(`{"image":{"Oci":{"reference":"a"}},"manifest_digest":"sha256:b"}`)
		},
		"a path":   func(s *savedSandbox) { s.Disks[0].File = "../x" },
		"no root":  func(s *savedSandbox) { s.Disks = nil },
		"a format": func(s *savedSandbox) { s.Disks[0].Format = "vmdk" },
	} {
		bad := saved
		bad.Disks = append([]savedDisk{}, saved.Disks...)
		change(&bad)
		require.True(t, IsKind(bad.check(a), ErrSnapshotIntegrity), name)
	}
	require.NoError(t, os.RemoveAll(h.path("secrets")))
	_, own, err := h.openSaved(ctx, a)
	require.NoError(t, err)
	assert.False(t, own, "without its key this host knows nothing of its own")
}
