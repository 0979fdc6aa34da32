package microsandbox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	"github.com/gomsb/gomsb/internal/store"
	"github.com/gomsb/gomsb/snapshot"
)

// longContext is testContext for tests that write disks, which takes long while others do.
func longContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// stopped makes a stopped sandbox with something in its root disk.
func stopped(t *testing.T, h home, name string, opts ...SandboxOption) string {
	t.Helper()
	sb := create(t, name, append([]SandboxOption{WithRootDisk(RootDisk.Managed(64))}, opts...)...)
	require.NoError(t, sb.Stop(testContext(t)))
	upper := filepath.Join(h.sandbox(name), upperName)
	if f, err := os.OpenFile(upper, os.O_RDWR, 0); err == nil {
		_, err = f.WriteAt([]byte("written by "+name), 48<<20)
		require.NoError(t, errors.Join(err, f.Close()))
	}
	return upper
}

func snapshotOf(t *testing.T, sandbox, name string) *SnapshotArtifact {
	t.Helper()
	s, err := Snapshot.Create(testContext(t), SnapshotCreateOptions{Name: name, FromSandbox: sandbox, Labels: map[string]string{"a": "b"}, RecordIntegrity: true})
	require.NoError(t, err)
	return s
}

func TestSnapshotLife(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := longContext(t)
	upper := stopped(t, h, "box")
	s := snapshotOf(t, "box", "base")
	assert.Equal(t, h.path("snapshots", "base"), s.Path())
	assert.EqualValues(t, 64<<20, *s.SizeBytes())
	assert.Equal(t, "box", *s.SourceSandbox())
	assert.Equal(t, map[string]string{"a": "b"}, s.Labels())
	assert.Equal(t, []any{"raw", "ext4", "disk", "file"}, []any{s.Format(), s.Fstype(), s.Scope(), s.State().Kind})
	assert.Nil(t, s.Parent())
	assert.True(t, s.State().File.HasIntegrity)
	assert.EqualValues(t, 64<<20, s.State().File.Integrity.LogicalSize)
	report, err := s.Verify(ctx)
	require.NoError(t, err)
	assert.Equal(t, SnapshotVerified, report.Upper.Kind)

	for _, name := range []string{"base", s.Path(), s.Digest()} {
		got, err := Snapshot.Open(ctx, name)
		require.NoError(t, err, name)
		assert.Equal(t, s.Digest(), got.Digest())
		handle, err := Snapshot.Get(ctx, name)
		require.NoError(t, err, name)
		assert.Equal(t, "base", *handle.Name())
		assert.Equal(t, s.CreatedAt(), handle.CreatedAt().UTC().Format(time.RFC3339Nano))
		opened, err := handle.Open(ctx)
		require.NoError(t, err)
		assert.Equal(t, s.Path(), opened.Path())
	}
	b, err := GetSandbox(ctx, "box")
	require.NoError(t, err)
	second, err := b.Snapshot(ctx, "second")
	require.NoError(t, err)
	report, err = second.Verify(ctx)
	require.NoError(t, err)
	assert.Equal(t, SnapshotNotRecorded, report.Upper.Kind)
	list, err := Snapshot.List(ctx)
	require.NoError(t, err)
	require.Len(t, list, 2)
	assert.Equal(t, "second", *list[0].Name(), "newest first")
	dir, err := Snapshot.ListDir(ctx, h.path("snapshots"))
	require.NoError(t, err)
	assert.Len(t, dir, 2)

	// A sandbox of it has the disk, the image and the size; both go on by themselves.
	fork := create(t, "fork", WithFromSnapshot("base"), WithImage(""))
	require.NoError(t, fork.Stop(ctx))
	want, err := os.ReadFile(upper)
	require.NoError(t, err)
	got, err := os.ReadFile(filepath.Join(h.sandbox("fork"), upperName))
	require.NoError(t, err)
	assert.True(t, string(want) == string(got), "the disks differ")
	f, err := GetSandbox(ctx, "fork")
	require.NoError(t, err)
	assert.Contains(t, f.ConfigJSON(), `"image":{"Oci":{"reference":"mini:latest"}}`, "as 0.6.18 stores it")
	again, err := f.Start(ctx)
	require.NoError(t, err)
	require.NoError(t, again.Stop(ctx))
	require.NoError(t, again.Close())
	info, err := os.Stat(filepath.Join(h.sandbox("fork"), upperName))
	require.NoError(t, err)
	assert.EqualValues(t, 64<<20, info.Size(), "a start does not grow it")

	require.NoError(t, os.RemoveAll(second.Path()))
	list, err = Snapshot.List(ctx)
	require.NoError(t, err)
	assert.Equal(t, []string{"missing", "ready"}, []string{list[0].Availability(), list[1].Availability()})
	require.NoError(t, Snapshot.Remove(ctx, "second", false), "what only the index knows is forgotten")
	require.NoError(t, list[1].Remove(ctx, false))
	assert.NoDirExists(t, s.Path())
	assert.True(t, IsKind(Snapshot.Remove(ctx, "base", false), ErrSnapshotNotFound))
}

func TestSnapshotRefusals(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := longContext(t)
	stopped(t, h, "box")
	running := create(t, "busy", WithRootDisk(RootDisk.Managed(64)))
	stopped(t, h, "memory", WithRootDisk(RootDisk.Tmpfs(RootDiskTmpfsOptions{})))
	raw := filepath.Join(t.TempDir(), "root.raw")
	require.NoError(t, os.WriteFile(raw, make([]byte, 4096), 0o600))
	stopped(t, h, "own", WithRootDisk(RootDisk.Disk(raw, RootDiskImageOptions{})))
	stopped(t, h, "lost")
	require.NoError(t, os.Remove(filepath.Join(h.sandbox("lost"), upperName)))
	snapshotOf(t, "box", "taken")
	for name, c := range map[string]struct {
		o    SnapshotCreateOptions
		want ErrorKind
	}{
		"no name":     {SnapshotCreateOptions{FromSandbox: "box"}, ErrInvalidConfig},
		"no sandbox":  {SnapshotCreateOptions{Name: "x"}, ErrInvalidConfig},
		"path":        {SnapshotCreateOptions{Name: "a/b", FromSandbox: "box"}, ErrInvalidConfig},
		"hidden":      {SnapshotCreateOptions{Name: ".x", FromSandbox: "box"}, ErrInvalidConfig},
		"identity":    {SnapshotCreateOptions{Name: "sha256:" + strings.Repeat("a", 64), FromSandbox: "box"}, ErrInvalidConfig},
		"empty label": {SnapshotCreateOptions{Name: "x", FromSandbox: "box", Labels: map[string]string{"": "x"}}, ErrInvalidConfig},
		"memory too":  {SnapshotCreateOptions{Name: "x", FromSandbox: "box", Resumable: true}, ErrSandboxNotRunning},
		"unknown":     {SnapshotCreateOptions{Name: "x", FromSandbox: "nobody"}, ErrSandboxNotFound},
		"running":     {SnapshotCreateOptions{Name: "x", FromSandbox: "busy"}, ErrSnapshotSandboxRunning},
		"tmpfs":       {SnapshotCreateOptions{Name: "x", FromSandbox: "memory"}, ErrInvalidConfig},
		"disk image":  {SnapshotCreateOptions{Name: "x", FromSandbox: "own"}, ErrInvalidConfig},
		"disk gone":   {SnapshotCreateOptions{Name: "x", FromSandbox: "lost"}, ErrIO},
		"taken":       {SnapshotCreateOptions{Name: "taken", FromSandbox: "box"}, ErrSnapshotAlreadyExists},
	} {
		_, err := Snapshot.Create(ctx, c.o)
		assert.True(t, IsKind(err, c.want), "%s: %v", name, err)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	_, err := Snapshot.Create(over, SnapshotCreateOptions{Name: "x", FromSandbox: "box"})
	assert.True(t, IsKind(err, ErrCancelled), "%v", err)
	entries, err := os.ReadDir(h.path("snapshots"))
	require.NoError(t, err)
	assert.Len(t, entries, 1, "nothing was made")
	require.NoError(t, running.Stop(ctx))
	snapshotOf(t, "busy", "now")

	for _, name := range []string{"nope", "./nope", "sha256:" + strings.Repeat("0", 64)} {
		_, err := Snapshot.Open(ctx, name)
		assert.True(t, IsKind(err, ErrSnapshotNotFound), "%v", err)
		_, err = Snapshot.Get(ctx, name)
		assert.True(t, IsKind(err, ErrSnapshotNotFound), "%v", err)
		assert.True(t, IsKind(Snapshot.Remove(ctx, name, true), ErrSnapshotNotFound))
		_, err = CreateSandbox(ctx, "y", WithFromSnapshot(name))
		assert.True(t, IsKind(err, ErrSnapshotNotFound), "%v", err)
	}
	for _, opts := range [][]SandboxOption{
		{WithFromSnapshot("taken"), WithImage("mini")}, {WithFromSnapshot("taken"), WithBindRootfs("/srv")}, {WithFromSnapshot("taken"), WithRootDisk(RootDisk.Managed(64))},
	} {
		_, err := CreateSandbox(ctx, "y", opts...)
		assert.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
	}
}

// TestSnapshotsAtATime makes snapshots of one sandbox at the same time, some under the same
// name, and starts sandboxes from one while it is replaced.
func TestSnapshotsAtATime(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := longContext(t)
	stopped(t, h, "box")
	errs := make(chan error, 6)
	for i := range cap(errs) {
		go func() {
			_, err := Snapshot.Create(ctx, SnapshotCreateOptions{Name: string(rune('a' + i%3)), FromSandbox: "box"})
			errs <- err
		}()
	}
	made := 0
	for range cap(errs) {
		if err := <-errs; err == nil {
			made++
		} else {
			assert.True(t, IsKind(err, ErrSnapshotAlreadyExists), "%v", err)
		}
	}
	assert.Equal(t, 3, made)
	list, err := Snapshot.List(ctx)
	require.NoError(t, err)
	assert.Len(t, list, 3)

	replaced := make(chan error)
	go func() {
		for range 5 {
			if _, err := Snapshot.Create(ctx, SnapshotCreateOptions{Name: "a", FromSandbox: "box", Force: true}); err != nil {
				replaced <- err
				return
			}
		}
		replaced <- nil
	}()
	for range 3 {
		sb, err := CreateSandbox(ctx, "fork", WithFromSnapshot("a"), WithReplace(), WithPullPolicy(PullPolicyNever))
		if err != nil {
			assert.True(t, IsKind(err, ErrSnapshotNotFound), "%v", err) // replaced while it was copied
			continue
		}
		require.NoError(t, sb.Stop(ctx))
		_ = sb.Close()
		<-sb.proc.Exited() // its watcher must not count as a leak
	}
	require.NoError(t, <-replaced)
}

func TestSnapshotDamage(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := longContext(t)
	stopped(t, h, "box")
	s := snapshotOf(t, "box", "base")
	payload := filepath.Join(s.Path(), upperName)
	f, err := os.OpenFile(payload, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("x"), 5<<20)
	require.NoError(t, errors.Join(err, f.Close()))
	_, err = s.Verify(ctx)
	assert.True(t, IsKind(err, ErrSnapshotIntegrity), "%v", err)
	require.NoError(t, os.Truncate(payload, 5))
	_, err = Snapshot.Open(ctx, "base")
	assert.True(t, IsKind(err, ErrSnapshotIntegrity), "%v", err)
	list, err := Snapshot.ListDir(ctx, h.path("snapshots"))
	require.NoError(t, err)
	assert.Empty(t, list)
	require.NoError(t, Snapshot.Remove(ctx, "base", false), "damaged ones can be removed")

	s = snapshotOf(t, "box", "base")
	text, err := os.ReadFile(filepath.Join(s.Path(), "snapshot.json"))
	require.NoError(t, err)
	for change, want := range map[string]ErrorKind{
		`},"requires":[]|,"new":1},"requires":["new"]`:                 ErrUnsupportedOperation,
		`"format":"raw"|"format":"qcow2"`:                              ErrUnsupportedOperation,
		`"labels":{|"colour":"red","labels":{`:                         ErrInvalidConfig,
		`"ref":"mini:latest"|"ref":"not a reference"`:                  ErrInvalidConfig,
		s.ImageManifestDigest() + `|sha256:` + strings.Repeat("0", 64): ErrSnapshotImageMissing,
	} {
		from, to, _ := strings.Cut(change, "|")
		require.Contains(t, string(text), from)
		require.NoError(t, os.WriteFile(filepath.Join(s.Path(), "snapshot.json"), []byte(strings.Replace(string(text), from, to, 1)), 0o600))
		_, err := CreateSandbox(ctx, "fork", WithFromSnapshot("base"), WithPullPolicy(PullPolicyNever))
		assert.True(t, IsKind(err, want), "%s: %v", change, err)
	}
	assert.NotContains(t, traces(t, h), "sandboxes/fork")
}

func TestSnapshotReindex(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := longContext(t)
	n, err := Snapshot.Reindex(ctx, filepath.Join(t.TempDir(), "none"))
	require.NoError(t, err)
	assert.Zero(t, n)
	stopped(t, h, "box")
	one, two := snapshotOf(t, "box", "one"), snapshotOf(t, "box", "two")
	away := t.TempDir()
	elsewhere, err := Snapshot.Create(ctx, SnapshotCreateOptions{Name: "one", FromSandbox: "box", DestDir: away})
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(away, "one"), elsewhere.Path())
	names := func() (all []string) {
		list, err := Snapshot.List(ctx)
		require.NoError(t, err)
		for _, s := range list {
			all = append(all, value(s.Name()))
		}
		return all
	}
	assert.Equal(t, []string{"", "two", "one"}, names(), "a name is taken in the folder of snapshots only")
	s, err := store.Open(ctx, h.database(), store.Options{})
	require.NoError(t, err)
	for _, a := range []*SnapshotArtifact{one, two, elsewhere} {
		require.NoError(t, s.RemoveSnapshot(ctx, a.Digest()))
	}
	require.NoError(t, s.Close())
	assert.Empty(t, names())
	require.NoError(t, os.RemoveAll(two.Path()))
	_, err = Snapshot.Open(ctx, one.Digest())
	require.NoError(t, err, "the directory is the truth")
	assert.Equal(t, []string{"one"}, names(), "and what is opened is indexed")
	n, err = Snapshot.Reindex(ctx, "")
	require.NoError(t, err)
	assert.EqualValues(t, 1, n)
	n, err = Snapshot.Reindex(ctx, away)
	require.NoError(t, err)
	assert.EqualValues(t, 1, n)
	assert.Equal(t, []string{"", "one"}, names())

	// A copy of a snapshot does not take the place of the one that has a name.
	out := filepath.Join(t.TempDir(), "out.tar")
	require.NoError(t, Snapshot.Save(ctx, "one", out, SnapshotSaveOptions{}))
	loaded, err := Snapshot.Load(ctx, out, t.TempDir())
	require.NoError(t, err)
	assert.Equal(t, one.Digest(), loaded.Digest())
	assert.NotEqual(t, one.Path(), loaded.Path())
	assert.Equal(t, []string{"", "one"}, names())
	require.NoError(t, loaded.Remove(ctx, false))
	_, err = Snapshot.Open(ctx, one.Digest())
	require.NoError(t, err)
	require.NoError(t, os.Rename(one.Path(), filepath.Join(away, "moved")))
	_, err = Snapshot.Reindex(ctx, away)
	require.NoError(t, err)
	assert.Equal(t, []string{"", ""}, names())
}

// TestSnapshotStaleIndex finds a snapshot by its identity where it is by now, and never the
// one that has its place.
func TestSnapshotStaleIndex(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := longContext(t)
	stopped(t, h, "box")
	old, heir := snapshotOf(t, "box", "old"), snapshotOf(t, "box", "heir")
	require.NoError(t, os.RemoveAll(old.Path()))
	require.NoError(t, os.Rename(heir.Path(), old.Path()))
	_, err := Snapshot.Open(ctx, old.Digest())
	assert.True(t, IsKind(err, ErrSnapshotNotFound), "%v", err)
	_, err = CreateSandbox(ctx, "fork", WithFromSnapshot(old.Digest()))
	assert.True(t, IsKind(err, ErrSnapshotNotFound), "%v", err)
	assert.True(t, IsKind(Snapshot.Remove(ctx, old.Digest(), true), ErrSnapshotNotFound))
	found, err := Snapshot.Open(ctx, heir.Digest())
	require.NoError(t, err)
	assert.Equal(t, old.Path(), found.Path())
}

// TestSnapshotParents works on a snapshot that is made from another one, as other releases
// may make them.
func TestSnapshotParents(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := longContext(t)
	stopped(t, h, "box")
	s := snapshotOf(t, "box", "base")
	child, err := snapshot.Create(ctx, snapshot.Config{Dir: h.path("snapshots"), Name: "child", Upper: filepath.Join(s.Path(), upperName),
		ImageRef: s.ImageRef(), ImageManifestDigest: s.ImageManifestDigest(), Parent: s.Digest(), CreatedAt: time.Now()})
	require.NoError(t, err)
	got, err := Snapshot.Get(ctx, "child")
	require.NoError(t, err)
	assert.Equal(t, s.Digest(), *got.ParentDigest())
	assert.True(t, IsKind(Snapshot.Remove(ctx, "base", false), ErrInvalidArgument), "it has a child")
	out := filepath.Join(t.TempDir(), "out")
	require.NoError(t, Snapshot.Save(ctx, "child", out, SnapshotSaveOptions{WithParents: true, WithImage: true}))
	require.NoError(t, Snapshot.Remove(ctx, "base", true))
	assert.True(t, IsKind(Snapshot.Save(ctx, "child", out+"2", SnapshotSaveOptions{WithParents: true}), ErrSnapshotNotFound))

	newHome(t)
	loaded, err := Snapshot.Load(ctx, out, "")
	require.NoError(t, err)
	assert.Equal(t, child.Digest, loaded.Digest())
	parent, err := Snapshot.Get(ctx, *loaded.ParentDigest())
	require.NoError(t, err)
	assert.Equal(t, strings.TrimPrefix(s.Digest(), "sha256:"), *parent.Name())
	assert.True(t, IsKind(parent.Remove(ctx, false), ErrInvalidArgument), "it is indexed with its child")
	require.NoError(t, loaded.Remove(ctx, false))
	require.NoError(t, parent.Remove(ctx, false))
}

// move saves a snapshot and loads it in another data root.
func move(t *testing.T, name string, o SnapshotSaveOptions) (home, *SnapshotHandle) {
	t.Helper()
	ctx := longContext(t)
	out := filepath.Join(t.TempDir(), "made", "out.tar.zst")
	require.NoError(t, Snapshot.Save(ctx, name, out, o))
	entries, err := os.ReadDir(filepath.Dir(out))
	require.NoError(t, err)
	require.Len(t, entries, 1)
	h := newHome(t)
	s, err := Snapshot.Load(ctx, out, "")
	require.NoError(t, err)
	_, err = Snapshot.Load(ctx, out, "")
	require.True(t, IsKind(err, ErrSnapshotAlreadyExists), "%v", err)
	return h, s
}

func TestSnapshotMovesWithItsImage(t *testing.T) {
	old := newGuests(t, runtimetest.Guest{})
	stopped(t, old, "box")
	s := snapshotOf(t, "box", "base")
	h, loaded := move(t, "base", SnapshotSaveOptions{WithImage: true, WithParents: true})
	ctx := longContext(t)
	assert.Equal(t, s.Digest(), loaded.Digest())
	assert.Equal(t, h.path("snapshots", "base"), loaded.Path())
	opened, err := loaded.Open(ctx)
	require.NoError(t, err)
	_, err = opened.Verify(ctx)
	require.NoError(t, err)
	fork := create(t, "fork", WithFromSnapshot("base"), WithImage(""))
	require.NoError(t, fork.Stop(ctx))
	require.NoError(t, RemoveSandbox(ctx, "fork"))
	catalog, err := openCatalog(ctx, h, false)
	require.NoError(t, err)
	require.NoError(t, catalog.store.RemoveSnapshot(ctx, loaded.Digest()))
	catalog.close()
	report, err := Image.Prune(ctx)
	require.NoError(t, err)
	assert.Equal(t, ImagePruneReport{}, *report, "the snapshot keeps the image, though the index did not know it")
	fork = create(t, "fork", WithFromSnapshot("base"), WithImage(""))
	require.NoError(t, fork.Stop(ctx))
	snapshotOf(t, "fork", "again")
}

func TestSnapshotMovesAlone(t *testing.T) {
	old := newGuests(t, runtimetest.Guest{})
	stopped(t, old, "box")
	s := snapshotOf(t, "box", "base")
	_, loaded := move(t, "base", SnapshotSaveOptions{PlainTar: true})
	ctx := longContext(t)
	assert.Equal(t, s.Digest(), loaded.Digest())
	_, err := CreateSandbox(ctx, "fork", WithFromSnapshot("base"), WithPullPolicy(PullPolicyNever))
	assert.True(t, IsKind(err, ErrSnapshotImageMissing), "%v", err)
	assert.True(t, IsKind(Snapshot.Save(ctx, "base", filepath.Join(t.TempDir(), "x"), SnapshotSaveOptions{WithImage: true}), ErrSnapshotImageMissing))
	_, err = Image.LoadFrom(ctx, strings.NewReader(string(archive(t))))
	require.NoError(t, err)
	fork := create(t, "fork", WithFromSnapshot("base"), WithImage(""))
	require.NoError(t, fork.Stop(ctx))
}

func TestSnapshotLoadFails(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := longContext(t)
	stopped(t, h, "box")
	s := snapshotOf(t, "box", "base")
	out := filepath.Join(t.TempDir(), "out.tar")
	require.NoError(t, Snapshot.Save(ctx, s.Digest(), out, SnapshotSaveOptions{WithImage: true, PlainTar: true}))
	good, err := os.ReadFile(out)
	require.NoError(t, err)
	h = newHome(t)
	at := strings.Index(string(good), "written by")
	require.Positive(t, at)
	for name, c := range map[string]struct {
		text string
		want ErrorKind
	}{
		"empty": {"", ErrInvalidConfig}, "no archive": {strings.Repeat("no archive", 100), ErrInvalidConfig}, "cut short": {string(good[:len(good)/2]), ErrInvalidConfig},
		"bit flip": {string(good[:at]) + "W" + string(good[at+1:]), ErrSnapshotIntegrity},
	} {
		bad := filepath.Join(t.TempDir(), "bad.tar")
		require.NoError(t, os.WriteFile(bad, []byte(c.text), 0o600))
		_, err := Snapshot.Load(ctx, bad, "")
		assert.True(t, IsKind(err, c.want), "%s: %v", name, err)
		left, err := os.ReadDir(h.path("snapshots"))
		require.NoError(t, err)
		assert.Empty(t, left, name)
		for _, dir := range []string{"layers", "fsmeta", "vmdk", "manifests", "tmp"} {
			files, err := filepath.Glob(h.path("cache", dir, "*[^k]")) // no locks
			require.NoError(t, err)
			assert.Empty(t, files, name)
		}
	}
	require.NoError(t, os.RemoveAll(filepath.Dir(h.database())))
	require.NoError(t, os.MkdirAll(filepath.Dir(h.database()), 0o700))
	require.NoError(t, os.WriteFile(h.database(), []byte(strings.Repeat("no database ", 1000)), 0o600))
	_, err = Snapshot.Load(ctx, out, "")
	assert.ErrorIs(t, err, store.ErrCorrupt)
	left, err := os.ReadDir(h.path("snapshots"))
	require.NoError(t, err)
	assert.Empty(t, left, "nothing is loaded that cannot be listed")
	require.NoError(t, os.Remove(h.database()))
	_, err = Snapshot.Load(ctx, filepath.Join(t.TempDir(), "nothing"), "")
	assert.True(t, IsKind(err, ErrIO), "%v", err)
	over, cancel := context.WithCancel(ctx)
	cancel()
	_, err = Snapshot.Load(over, out, "")
	assert.True(t, IsKind(err, ErrCancelled), "%v", err)
	_, err = Snapshot.Load(ctx, out, "")
	require.NoError(t, err)
}

// TestSnapshotLoadKilled kills loads at many points; what is there then is whole, and the
// next load leaves no trace of them.
func TestSnapshotLoadKilled(t *testing.T) {
	if out := os.Getenv("SDK_TEST_LOAD"); out != "" {
		for {
			h, err := Snapshot.Load(t.Context(), out, "")
			require.NoError(t, err)
			require.NoError(t, h.Remove(t.Context(), false))
		}
	}
	h := newGuests(t, runtimetest.Guest{})
	ctx := longContext(t)
	stopped(t, h, "box")
	snapshotOf(t, "box", "base")
	out := filepath.Join(t.TempDir(), "out.tar.zst")
	require.NoError(t, Snapshot.Save(ctx, "base", out, SnapshotSaveOptions{WithImage: true}))
	h = newHome(t)
	for i := range 15 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestSnapshotLoadKilled$")
		cmd.Env = append(os.Environ(), "SDK_TEST_LOAD="+out)
		require.NoError(t, cmd.Start())
		time.Sleep(time.Duration(60+i*23) * time.Millisecond)
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
		entries, err := os.ReadDir(h.path("snapshots"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".") {
				s, err := Snapshot.Open(ctx, e.Name())
				require.NoError(t, err)
				_, err = s.Verify(ctx)
				require.NoError(t, err)
				require.NoError(t, Snapshot.Remove(ctx, e.Name(), false))
			}
		}
	}
	_, err := Snapshot.Load(ctx, out, "")
	require.NoError(t, err)
	entries, err := os.ReadDir(h.path("snapshots"))
	require.NoError(t, err)
	for _, e := range entries {
		// A removal that was killed is ended by the next one of the name.
		require.Contains(t, []string{"base", ".base.staging"}, e.Name())
	}
	fork := create(t, "fork", WithFromSnapshot("base"), WithImage(""))
	require.NoError(t, fork.Stop(ctx))
}
