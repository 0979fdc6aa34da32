//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// newSnapshot makes a snapshot of a stopped sandbox that the test's end removes.
func newSnapshot(t *testing.T, sandbox string) *msb.SnapshotArtifact {
	t.Helper()
	s, err := msb.Snapshot.Create(within(t, patience), msb.SnapshotCreateOptions{Name: newName(t), FromSandbox: sandbox, RecordIntegrity: true})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(s.Path())) })
	return s
}

// fromSnapshot creates a sandbox of a snapshot.
func fromSnapshot(t *testing.T, s *msb.SnapshotArtifact) *msb.Sandbox {
	t.Helper()
	return create(t, msb.WithImage(""), msb.WithFromSnapshot(s.Path()))
}

// TestSnapshotForks boots two sandboxes at a time from one snapshot: both have what was
// written, go on by themselves, and leave the snapshot as it was.
func TestSnapshotForks(t *testing.T) {
	base := create(t, msb.WithRootDisk(msb.RootDisk.Managed(256)))
	shell(t, base, "echo written > /note; rm /bin/vi; mkdir -p /srv/deep; ln -s /note /srv/link; dd if=/dev/urandom of=/srv/blob bs=64k count=16 2>/dev/null; chown 5:6 /srv/deep")
	want := shell(t, base, "sha256sum /srv/blob")
	_, err := msb.Snapshot.Create(within(t, patience), msb.SnapshotCreateOptions{Name: "x", FromSandbox: base.Name()})
	assert.True(t, msb.IsKind(err, msb.ErrSnapshotSandboxRunning), "%v", err)
	require.NoError(t, base.Stop(within(t, patience)))
	s := newSnapshot(t, base.Name())
	assertClean(t, filepath.Join(s.Path(), "upper.ext4"))

	one, two := fromSnapshot(t, s), fromSnapshot(t, s)
	for _, sb := range []*msb.Sandbox{one, two} {
		assert.Equal(t, "written gone 5:6", shell(t, sb, "echo $(cat /srv/link) $(test -e /bin/vi || echo gone) $(stat -c %u:%g /srv/deep)"))
		assert.Equal(t, want, shell(t, sb, "sha256sum /srv/blob"))
	}
	shell(t, one, "echo one > /note")
	shell(t, two, "echo two > /note; rm -r /srv")
	assert.Equal(t, "one deep", shell(t, one, "echo $(cat /note) $(ls -d /srv/deep | xargs basename)"))
	require.NoError(t, one.Stop(within(t, patience)))
	require.NoError(t, two.Stop(within(t, patience)))
	again := start(t, two.Name())
	assert.Equal(t, "two", shell(t, again, "cat /note"))
	report, err := s.Verify(within(t, patience))
	require.NoError(t, err)
	assert.Equal(t, msb.SnapshotVerified, report.Upper.Kind, "the snapshot is as it was")
}

// TestSnapshotOfACrash makes a snapshot of a sandbox whose runtime was killed: the journal
// that it holds is replayed where it boots.
func TestSnapshotOfACrash(t *testing.T) {
	base := create(t, msb.WithRootDisk(msb.RootDisk.Managed(256)))
	shell(t, base, "for i in $(seq 100); do echo $i > /f$i; done; sync; for i in $(seq 100); do mv /f$i /g$i; done")
	kill(t, base.Name())
	s := newSnapshot(t, base.Name())
	require.True(t, inspectDisk(t, filepath.Join(s.Path(), "upper.ext4")).NeedsRecovery, "or this proves nothing")
	sb := fromSnapshot(t, s)
	assert.Equal(t, "100 5050", shell(t, sb, "cat /f[0-9]* /g[0-9]* 2>/dev/null | awk '{n++; s+=$1} END {print n, s}'"))
	require.NoError(t, sb.Stop(within(t, patience)))
	assertClean(t, upperOf(sb))
}

// elsewhere runs a program of either make, with a runtime of either, in a data root of its
// own.
type elsewhere struct{ program, runtime, home string }

func newHome(t *testing.T, program string) elsewhere {
	t.Helper()
	home, err := os.MkdirTemp("", "m") // short, for sockets
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(home)) })
	return elsewhere{program, program, home}
}

// run runs a command that must succeed, and returns its output.
func (e elsewhere) run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(within(t, 4*patience), e.program, args...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "MSB_HOME="+e.home, "MSB_PATH="+e.runtime, "HOME="+t.TempDir())
	cmd.WaitDelay = time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s %v: %s%s", e.program, args, out, stderr.String())
	return strings.TrimSpace(string(out))
}

// loaded loads a snapshot's archive and returns the snapshot's name there.
func (e elsewhere) loaded(t *testing.T, archive string) string {
	t.Helper()
	lines := strings.Split(e.run(t, "snapshot", "load", archive), "\n")
	require.Len(t, lines, 2, "identity and path")
	return filepath.Base(lines[1])
}

// TestSnapshotsAreInterchangeable lets us and microsandbox 0.6.18 make snapshots and
// archives of them, with the image. Either program boots the other's, from one data root
// and from an empty one that got the archive.
func TestSnapshotsAreInterchangeable(t *testing.T) {
	official, err := os.ReadFile(data("official"))
	require.NoError(t, err)
	programs := []string{os.Getenv("MSB_PATH"), string(official)}
	images := filepath.Join(t.TempDir(), "mini.tar")
	cli(t, "image", "save", "-q", "-o", images, "mini").ok(t)
	for i, maker := range programs {
		other := programs[1-i]
		from := newHome(t, maker)
		from.run(t, "load", "-q", "-i", images)
		from.run(t, "run", "--pull", "never", "--root-disk", "256M", "--name", "src", "mini", "--", "sh", "-c", "echo from "+filepath.Base(from.home)+" > /note; rm /bin/vi; sync")
		from.run(t, "snapshot", "create", "base", "--from", "src", "--integrity")
		archive := filepath.Join(t.TempDir(), "base.tar.zst")
		from.run(t, "snapshot", "save", "base", archive, "--with-image")
		for _, at := range []elsewhere{{other, other, from.home}, newHome(t, other)} {
			name := "base"
			if at.home != from.home {
				name = at.loaded(t, archive)
			}
			assert.Contains(t, at.run(t, "snapshot", "verify", name), "verified (msb-file-merkle-blake3-v1 blake3:", "%s by %s", maker, other)
			got := at.run(t, "run", "--pull", "never", "--from-snapshot", name, "--", "sh", "-c", "cat /note; test -e /bin/vi || echo gone")
			assert.Equal(t, "from "+filepath.Base(from.home)+"\ngone", got, "%s by %s", maker, other)
		}
	}
}

// TestSnapshotMoves takes a snapshot with its image to a data root that has neither.
func TestSnapshotMoves(t *testing.T) {
	name := newName(t)
	cli(t, "run", "-q", "-n", name, "--root-disk", "256M", "mini", "--", "sh", "-c", "echo moved > /note").ok(t)
	archive := filepath.Join(t.TempDir(), "s.tar")
	cli(t, "snapshot", "create", "-q", name, "--from", name).ok(t)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(homePath("snapshots", name))) })
	cli(t, "snapshot", "save", "--plain-tar", "--with-image", name, archive).ok(t)
	at := newHome(t, os.Getenv("MSB_PATH"))
	assert.Equal(t, name, at.loaded(t, archive), "its name was free")
	at.run(t, "create", "--pull", "never", "--from-snapshot", name, "-n", "kept")
	at.run(t, "exec", "kept", "--", "sh", "-c", "echo changed >> /note")
	at.run(t, "stop", "kept")
	at.run(t, "snapshot", "create", "second", "--from", "kept")
	at.run(t, "rm", "kept")
	assert.Equal(t, "moved\nchanged", at.run(t, "run", "--pull", "never", "--from-snapshot", "second", "--", "cat", "/note"))
}
