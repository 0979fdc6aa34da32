package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

// stoppedBox makes a data root with a stopped sandbox box.
func stoppedBox(t *testing.T) string {
	t.Helper()
	dir := newGuests(t, runtimetest.Guest{})
	succeed(t, "create", "-q", "--pull", "never", "--root-disk", "64M", "-n", "box", "mini")
	succeed(t, "stop", "-q", "box")
	return dir
}

var (
	anyDigest = regexp.MustCompile(`sha256:[0-9a-f]{64}`)
	anyTime   = regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\+00:00)?`)
)

// blur makes what differs from run to run the same.
func blur(dir, s string) string {
	s = strings.ReplaceAll(s, dir, "HOME")
	s = anyTime.ReplaceAllString(anyDigest.ReplaceAllString(s, "DIGEST"), "TIME")
	s = regexp.MustCompile(`sha256:[0-9a-f]{12}\b`).ReplaceAllString(s, "SHORT")
	s = regexp.MustCompile(`blake3:[0-9a-f]{64}`).ReplaceAllString(s, "ROOT")
	return regexp.MustCompile(`(?m)(Upper On Disk:  ).*`).ReplaceAllString(s, "${1}N")
}

func TestSnapshotCommands(t *testing.T) {
	dir := stoppedBox(t)
	assert.Equal(t, result{0, "", "No snapshots indexed.\n"}, run("snapshot", "ls"))
	assert.Equal(t, "[]\n", succeed(t, "snap", "list", "--format", "json").out)
	assert.Empty(t, succeed(t, "snapshots", "-q").out)

	r := succeed(t, "snapshot", "create", "base", "--from", "box", "--integrity", "--label", "a=b=c", "--label", "k=")
	assert.Equal(t, "DIGEST\nHOME/snapshots/base\n", blur(dir, r.out))
	assert.Equal(t, "   ✓ Snapshotted  box\n", r.err)
	digest := strings.SplitN(r.out, "\n", 2)[0]
	assert.Equal(t, result{}, run("snapshot", "create", "plain", "--from", "box", "-q"))

	assert.Equal(t, `Digest:         DIGEST
Path:           HOME/snapshots/base
Image:          mini
Image Manifest: DIGEST
Scope:          disk
Parent:         -
Created:        TIME
State:          file
Format:         raw
Filesystem:     ext4
Upper File:     upper.ext4
Upper Size:     64.0 MiB
Upper On Disk:  N
Integrity:      msb-file-merkle-blake3-v1 ROOT
Verification:   verified (msb-file-merkle-blake3-v1 ROOT)
Source Sandbox: box
Labels:         a=b=c, k=
`, blur(dir, succeed(t, "snapshot", "inspect", digest, "--verify").out))
	assert.Contains(t, succeed(t, "snapshot", "inspect", "plain").out, "Integrity:      not recorded\nSource")
	assert.Equal(t, "Digest:         DIGEST\nPath:           HOME/snapshots/plain\nVerification:   not recorded\n",
		blur(dir, succeed(t, "snapshot", "verify", filepath.Join(dir, "snapshots", "plain")).out))

	assert.Equal(t, `NAME     SCOPE    MIGRATION    IMAGE    SIZE        CREATED                DIGEST
plain    disk     canonical    mini     64.0 MiB    TIME    SHORT
base     disk     canonical    mini     64.0 MiB    TIME    SHORT
`, blur(dir, succeed(t, "snapshot", "ls").out))
	assert.Equal(t, digest, strings.Split(succeed(t, "snapshots", "-q").out, "\n")[1])
	var list []map[string]any
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "snaps", "--format", "json").out), &list))
	require.Len(t, list, 2)
	assert.Regexp(t, `^`+anyTime.String()+`$`, list[1]["created_at"])
	delete(list[1], "created_at")
	assert.Equal(t, map[string]any{"artifact_path": filepath.Join(dir, "snapshots", "base"), "availability": "ready", "checkpoint_manifest_digest": nil, "digest": digest,
		"format": "raw", "fstype": "ext4", "image_ref": "mini", "locality": "embedded", "migration_error_code": nil, "migration_state": "canonical", "name": "base",
		"parent_digest": nil, "scope": "disk", "size_bytes": float64(64 << 20), "state_kind": "file"}, list[1])

	r = run("snapshot", "create", "base", "--from", "box")
	assert.Equal(t, 1, r.code)
	assert.Equal(t, "error: snapshot already exists: HOME/snapshots/base\n  → choose another name, or replace it with --force\n", blur(dir, r.err))
	succeed(t, "snapshot", "create", "base", "--from", "box", "-fq", "--integrity")
	f, err := os.OpenFile(filepath.Join(dir, "snapshots", "base", "upper.ext4"), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("x"), 50<<20)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	r = run("snapshot", "verify", "base")
	assert.Equal(t, 1, r.code)
	assert.Empty(t, r.out)
	assert.Contains(t, r.err, "error: snapshot payload differs from its recorded digest")

	out := filepath.Join(t.TempDir(), "s.tar")
	assert.Equal(t, out+"\n", succeed(t, "snapshot", "save", "plain", out, "--plain-tar", "--with-image", "--with-parents").out)
	there := t.TempDir()
	assert.Equal(t, "DIGEST\nHOME/plain\n", blur(there, succeed(t, "snapshot", "load", out, there).out))
	assert.Equal(t, "indexed 1 snapshot(s) from HOME\n", blur(there, succeed(t, "snapshot", "reindex", there).out))
	assert.Equal(t, "indexed 2 snapshot(s) from HOME/snapshots\n", blur(dir, succeed(t, "snapshot", "reindex").out))
	r = run("snapshot", "load", out)
	assert.Equal(t, result{1, "", "error: snapshot already exists: HOME/snapshots/plain\n"}, result{r.code, r.out, blur(dir, r.err)})

	r = run("snapshot", "rm", "nope", "plain")
	assert.Equal(t, result{1, "", "error: snapshot not found: HOME/snapshots/nope\n   ✓ Removed      plain\n"}, result{r.code, r.out, blur(dir, r.err)})
	assert.Equal(t, result{1, "", ""}, run("snapshot", "remove", "-q", "nope"))
}

func TestSnapshotMistakes(t *testing.T) {
	dir := stoppedBox(t)
	succeed(t, "snapshot", "create", "base", "--from", "box", "-q")
	for line, want := range map[string]result{
		"snapshot create x":                           {2, "", "--from <SANDBOX>"},
		"snapshot create --from box":                  {2, "", ""},
		"snapshot create x --from nobody":             {1, "", "sandbox not found: nobody"},
		"snapshot create .x --from box":               {1, "", "not a snapshot name"},
		"snapshot create x --from box --label k":      {1, "", "invalid --label 'k': expected K=V"},
		"snapshot create x --from box --resumable":    {1, "", "only what runs, or is paused, has a memory to save"},
		"snapshot inspect":                            {2, "", ""},
		"snapshot verify ./nope":                      {1, "", "snapshot not found: "},
		"snapshot save base":                          {2, "", ""},
		"snapshot save nope x.tar":                    {1, "", "snapshot not found: HOME/snapshots/nope"},
		"snapshot load nope.tar":                      {1, "", "nope.tar"},
		"snapshot":                                    {2, "", "Usage:"},
		"run --from-snapshot base mini":               {2, "", "cannot be used with '[IMAGE]'"},
		"run --from-snapshot base --root-disk 8G":     {1, "", "a root disk goes with an OCI image"},
		"run --from-snapshot nope":                    {1, "", "snapshot not found: HOME/snapshots/nope"},
		"create -n x --from-snap base --root-disk 8G": {1, "", "a root disk goes with an OCI image"},
	} {
		r := run(strings.Fields(line)...)
		assert.Equal(t, want.code, r.code, line)
		assert.Contains(t, blur(dir, r.err), want.err, line)
		assert.Empty(t, r.out, line)
	}
}

func TestRunFromSnapshot(t *testing.T) {
	stoppedBox(t)
	succeed(t, "snapshot", "create", "base", "--from", "box", "-q")
	succeed(t, "create", "-q", "-n", "fork", "--pull", "never", "--from-snapshot", "base")
	r := succeed(t, "run", "-n", "fork", "--from-snapshot", "base", "--", "hello")
	assert.Contains(t, r.err, "warn: sandbox fork exists: --from-snapshot ignored")
	assert.Equal(t, "default\n", succeed(t, "run", "--pull", "never", "--from-snapshot", "base").out, "the image's own command")
	succeed(t, "stop", "-q", "fork")
	assert.Contains(t, succeed(t, "inspect", "fork").out, "mini")
}
