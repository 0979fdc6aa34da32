//go:build official

package microsandbox

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

// official is the command of microsandbox 0.6.18. It needs no virtual machine for what is
// asked of it here; the end-to-end suite boots what it makes. The build tag is for those who
// test without a network.
type official struct{ path string }

func newOfficial(t *testing.T) official {
	t.Helper()
	cmd := exec.CommandContext(longContext(t), "../hack/kernel/official.sh")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "5.6.1 "); ok {
			return official{filepath.Join(filepath.Dir(filepath.Dir(path)), "bin", "msb")}
		}
	}
	require.Fail(t, "no microsandbox 0.6.18")
	return official{}
}

// run runs a command in a data root.
func (o official) run(t *testing.T, h home, args ...string) (stdout, stderr string, ok bool) {
	t.Helper()
	cmd := exec.CommandContext(longContext(t), o.path, args...)
	cmd.Env = []string{"MSB_HOME=" + h.root, "HOME=" + t.TempDir(), "NO_COLOR=1", "PATH=" + os.Getenv("PATH")}
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return out.String(), errs.String(), err == nil
}

func (o official) succeed(t *testing.T, h home, args ...string) string {
	t.Helper()
	out, errs, ok := o.run(t, h, args...)
	require.True(t, ok, "msb %v: %s", args, errs)
	return out
}

// TestOfficialSharesSnapshots makes snapshots by either program in one data root.
func TestOfficialSharesSnapshots(t *testing.T) {
	o := newOfficial(t)
	h := newGuests(t, runtimetest.Guest{})
	ctx := longContext(t)
	stopped(t, h, "box")
	ours := snapshotOf(t, "box", "ours")
	assert.Contains(t, o.succeed(t, h, "snapshot", "verify", "ours"), "verified (msb-file-merkle-blake3-v1 "+ours.State().File.Integrity.Root+")")
	theirs := strings.Fields(o.succeed(t, h, "snapshot", "create", "theirs", "--from", "box", "--integrity", "--label", "who=them"))
	s, err := Snapshot.Open(ctx, "theirs")
	require.NoError(t, err)
	assert.Equal(t, theirs, []string{s.Digest(), s.Path()})
	assert.Equal(t, ours.State().File.Integrity, s.State().File.Integrity)
	assert.Equal(t, map[string]string{"who": "them"}, s.Labels())
	_, err = s.Verify(ctx)
	require.NoError(t, err)

	// Either index says the same.
	var list []map[string]any
	require.NoError(t, json.Unmarshal([]byte(o.succeed(t, h, "snapshot", "ls", "--format", "json")), &list))
	handles, err := Snapshot.List(ctx)
	require.NoError(t, err)
	require.Len(t, handles, 2)
	for i, row := range list {
		assert.Equal(t, []any{row["digest"], row["name"], row["artifact_path"], row["size_bytes"], row["format"], row["migration_state"], row["image_ref"]},
			[]any{handles[i].Digest(), *handles[i].Name(), handles[i].Path(), float64(*handles[i].SizeBytes()), *handles[i].Format(), handles[i].MigrationState(), handles[i].ImageRef()})
	}
	o.succeed(t, h, "snapshot", "rm", "ours")
	_, err = Snapshot.Open(ctx, ours.Digest())
	assert.True(t, IsKind(err, ErrSnapshotNotFound))
	require.NoError(t, Snapshot.Remove(ctx, theirs[0], false))
	assert.Empty(t, o.succeed(t, h, "snapshot", "ls", "-q"))
}

// TestOfficialReadsFullSnapshots: for the official program a full snapshot is one of a disk,
// in the folder and in an archive without memory; it takes no other archive.
func TestOfficialReadsFullSnapshots(t *testing.T) {
	o := newOfficial(t)
	h := newGuests(t, runtimetest.Guest{})
	ctx := longContext(t)
	create(t, "box", WithRootDisk(RootDisk.Managed(64)))
	s := fullSnapshot(t, "box", "warm")
	assert.Contains(t, o.succeed(t, h, "snapshot", "verify", "warm"), "verified (msb-file-merkle-blake3-v1 "+s.State().File.Integrity.Root+")")
	inspect := o.succeed(t, h, "snapshot", "inspect", "warm")
	assert.Contains(t, inspect, s.Digest())
	assert.Equal(t, s.Digest(), strings.TrimSpace(o.succeed(t, h, "snapshot", "ls", "-q")))
	o.succeed(t, h, "snapshot", "reindex")
	theirs := filepath.Join(t.TempDir(), "theirs")
	o.succeed(t, h, "snapshot", "save", "warm", theirs)

	ours, full := filepath.Join(t.TempDir(), "ours"), filepath.Join(t.TempDir(), "full")
	require.NoError(t, Snapshot.Save(ctx, "warm", ours, SnapshotSaveOptions{DiskOnly: true}))
	require.NoError(t, Snapshot.Save(ctx, "warm", full, SnapshotSaveOptions{}))
	there := newHome(t)
	assert.Equal(t, s.Digest(), strings.Fields(o.succeed(t, there, "snapshot", "load", ours))[0])
	elsewhere := newHome(t)
	_, errs, ok := o.run(t, elsewhere, "snapshot", "load", full)
	assert.False(t, ok)
	assert.NotEmpty(t, errs)
	assert.Empty(t, o.succeed(t, elsewhere, "snapshot", "ls", "-q"))
	got, err := Snapshot.Load(ctx, theirs, "")
	require.NoError(t, err)
	assert.Nil(t, got.Memory())
	t.Setenv("MSB_HOME", h.root)
	o.succeed(t, h, "snapshot", "rm", "warm")
	assert.NoDirExists(t, s.Path())
}

// TestOfficialSharesArchives gives archives of either program to the other.
func TestOfficialSharesArchives(t *testing.T) {
	o := newOfficial(t)
	h := newGuests(t, runtimetest.Guest{})
	ctx := longContext(t)
	stopped(t, h, "box")
	s := snapshotOf(t, "box", "base")
	dir := t.TempDir()
	for i, options := range [][]string{{}, {"--plain-tar"}, {"--with-image"}, {"--with-image", "--plain-tar", "--with-parents"}} {
		t.Setenv("MSB_HOME", h.root)
		ours, theirs := filepath.Join(dir, "ours"+string(rune('0'+i))), filepath.Join(dir, "theirs"+string(rune('0'+i)))
		has := func(option string) bool { return strings.Contains(strings.Join(options, " "), option) }
		require.NoError(t, Snapshot.Save(ctx, "base", ours, SnapshotSaveOptions{WithImage: has("image"), PlainTar: has("plain"), WithParents: has("parents")}))
		o.succeed(t, h, append([]string{"snapshot", "save", "base", theirs}, options...)...)

		there := newHome(t)
		loaded := strings.Fields(o.succeed(t, there, "snapshot", "load", ours))
		require.Equal(t, s.Digest(), loaded[0], options)
		assert.Contains(t, o.succeed(t, there, "snapshot", "verify", filepath.Base(loaded[1])), "verified")
		if has("image") {
			files, err := filepath.Glob(there.path("cache", "*", "*.[ejv]*")) // erofs, json, vmdk
			require.NoError(t, err)
			assert.Len(t, files, 4, "document, fsmeta, descriptor, layer")
		}

		newHome(t)
		got, err := Snapshot.Load(ctx, theirs, "")
		require.NoError(t, err, options)
		assert.Equal(t, s.Digest(), got.Digest())
		opened, err := got.Open(ctx)
		require.NoError(t, err)
		_, err = opened.Verify(ctx)
		require.NoError(t, err)
		_, err = resolveImageOf(t, got.Path())
		assert.Equal(t, has("image"), err == nil, "%v: %v", options, err)
	}
}

// resolveImageOf looks for the image that a snapshot needs in the cache.
func resolveImageOf(t *testing.T, path string) (rootImage, error) {
	r := resolveSnapshot(testContext(t), home{root: os.Getenv("MSB_HOME")}, &SandboxConfig{Snapshot: path, PullPolicy: PullPolicyNever})
	return r, r.err
}

// TestOfficialReadsWhatWeMigrate opens artefacts of 0.5.7 by both programs, in either
// order, and verifies the digest that changed its meaning.
func TestOfficialReadsWhatWeMigrate(t *testing.T) {
	o := newOfficial(t)
	h := newHome(t)
	ctx := longContext(t)
	payload := make([]byte, 1<<20)
	copy(payload[4096:], "data")
	sum := sha256.New()
	sum.Write(binary.LittleEndian.AppendUint64([]byte("msb-sparse-sha256-v1\x00"), uint64(len(payload))))
	sum.Write(payload)
	for _, name := range []string{"first", "second"} {
		dir := h.path("snapshots", name)
		require.NoError(t, os.MkdirAll(dir, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "upper.ext4"), payload, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "manifest.json"), []byte(`{"schema":1,"format":"raw","fstype":"ext4","image":{"ref":"mini:latest","manifest_digest":"sha256:`+strings.Repeat("a", 64)+
			`"},"parent":null,"created_at":"2026-05-01T14:00:00.100+02:00","labels":{"name":"`+name+`"},"upper":{"file":"upper.ext4","size_bytes":1048576,"integrity":{"algorithm":"msb-sparse-sha256-v1","digest":"sha256:`+
			hex.EncodeToString(sum.Sum(nil))+`"}},"source_sandbox":null}`), 0o600))
	}
	first, err := Snapshot.Open(ctx, "first")
	require.NoError(t, err)
	_, err = first.Verify(ctx)
	require.NoError(t, err)
	assert.FileExists(t, filepath.Join(first.Path(), "manifest.json"), "it is left as it is")
	for _, name := range []string{"first", "second"} {
		assert.Contains(t, o.succeed(t, h, "snapshot", "verify", name), "verified (msb-sparse-sha256-v1")
		s, err := Snapshot.Open(ctx, name)
		require.NoError(t, err)
		assert.Contains(t, o.succeed(t, h, "snapshot", "inspect", name), s.Digest())
		assert.NoFileExists(t, filepath.Join(s.Path(), "manifest.json"), "now it is migrated")
	}
	again, err := Snapshot.Open(ctx, "first")
	require.NoError(t, err)
	assert.Equal(t, first.Digest(), again.Digest())
}
