//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	msb "github.com/gomsb/gomsb/sdk"
)

// templateMiB and layersMiB are sizes of memory that one test has each, so that the templates of
// them are this test's.
const (
	templateMiB = 96
	layersMiB   = 112
)

// copied reports whether a sandbox is a copy of a boot template.
func copied(t *testing.T, name string) bool {
	t.Helper()
	b, err := os.ReadFile(homePath("sandboxes", name, "logs", "runtime.log"))
	require.NoError(t, err)
	return strings.Contains(string(b), "copy of a boot template")
}

// templates lists the boot templates of a size.
func templates(t *testing.T, mib int) (dirs []string) {
	t.Helper()
	files, err := filepath.Glob(homePath("cache", "gomsb", "templates", "*", "machine"))
	require.NoError(t, err)
	for _, f := range files {
		if strings.HasPrefix(filepath.Base(filepath.Dir(f)), ".") {
			continue // it is being made
		}
		b, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(b), `"memory_mib":`+strconv.Itoa(mib)) {
			dirs = append(dirs, filepath.Dir(f))
		}
	}
	return dirs
}

// TestTemplates boots a sandbox, after which others of its shape are copies of a guest that
// has booted, and have nothing else in common.
func TestTemplates(t *testing.T) {
	create := func(options ...msb.SandboxOption) (*msb.Sandbox, string) {
		name := newName(t)
		return createAs(t, name, append(options, msb.WithMemory(templateMiB))...), name
	}
	first, name := create()
	assert.False(t, copied(t, name), "there was no template of it")
	eventually(t, "its template is made", func() bool { return len(templates(t, templateMiB)) == 1 })
	assert.Equal(t, "there", shell(t, first, "echo there"), "the first one is not disturbed")

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte("shared\n"), 0o644))
	a, nameA := create()
	b, nameB := create()
	assert.True(t, copied(t, nameA))
	assert.True(t, copied(t, nameB))
	for _, sb := range []*msb.Sandbox{a, b} {
		clock, err := strconv.ParseInt(shell(t, sb, "date +%s"), 10, 64)
		require.NoError(t, err)
		assert.InDelta(t, time.Now().Unix(), clock, 30, "the clock is right")
		assert.Equal(t, "0", shell(t, sb, "touch /new && sync && test -e /new; echo $?"), "it has a root of its own")
	}
	for _, what := range []string{"cat /proc/sys/kernel/random/uuid", "cat /proc/sys/kernel/random/boot_id", "head -c 16 /dev/urandom | od -An -tx1", "cat /sys/class/net/eth0/address", "ip -4 -o addr show eth0 | awk '{print $4}'", "hostname"} {
		inA, inB := shell(t, a, what), shell(t, b, what)
		assert.NotEmpty(t, inA, what)
		assert.NotEqual(t, inA, inB, "%s: two copies have it in common", what)
	}

	// Another shape: a share more. Its tag in the template is nobody's.
	mount := msb.WithMounts(map[string]msb.MountConfig{"/data": msb.Mount.Bind(dir, msb.MountOptions{})})
	c, nameC := create(mount)
	assert.False(t, copied(t, nameC))
	assert.Equal(t, "shared", shell(t, c, "cat /data/file"))
	eventually(t, "the second template is made", func() bool { return len(templates(t, templateMiB)) == 2 })
	d, nameD := create(mount)
	assert.True(t, copied(t, nameD))
	assert.Equal(t, "shared", shell(t, d, "cat /data/file"))

	// What is damaged is not used, and made again.
	for _, dir := range templates(t, templateMiB) {
		f, err := os.OpenFile(filepath.Join(dir, "memory"), os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte("damage"), 17<<20)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	e, nameE := create()
	assert.False(t, copied(t, nameE))
	assert.Equal(t, "there", shell(t, e, "echo there"))
	eventually(t, "it is made again", func() bool { return len(templates(t, templateMiB)) == 2 })

	t.Setenv("MSB_GOMSB_TEMPLATES", "off")
	_, nameF := create()
	assert.False(t, copied(t, nameF), "templates are switched off")
}

// TestBranchesOfCopies makes copies of a copy of a template, and of these: what is saved of them
// refers to the template as long as it is there.
func TestBranchesOfCopies(t *testing.T) {
	ctx := within(t, 8*patience)
	create := func() *msb.Sandbox { return createAs(t, newName(t), msb.WithMemory(layersMiB)) }
	create()
	eventually(t, "its template is made", func() bool { return len(templates(t, layersMiB)) == 1 })
	template := templates(t, layersMiB)[0]
	var st unix.Stat_t
	require.NoError(t, unix.Stat(filepath.Join(template, "memory"), &st))
	whole := st.Blocks * 512

	source := create()
	require.True(t, copied(t, source.Name()))
	pid := shell(t, source, "mkdir /data; "+counting, msb.WithExecUser("root"))
	least := count(t, source)
	branch := func(of *msb.Sandbox, names ...string) []*msb.Sandbox {
		up, err := of.Branch(ctx, names)
		branched(t, up)
		require.NoError(t, err)
		for _, sb := range append(up, of) {
			goesOn(t, sb, pid, least)
		}
		return up
	}
	up := branch(source, newName(t), newName(t))
	assert.Less(t, savedOf(t, source), whole/2)
	second := branch(up[0], newName(t))[0]
	assert.Less(t, savedOf(t, up[0]), whole/2)

	name := newName(t)
	cli(t, "snapshot", "create", name, "--from", second.Name(), "--full").ok(t)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(homePath("snapshots", name))) })
	assert.Greater(t, savedOf(t, second), whole)
	require.NoError(t, os.RemoveAll(template))
	third := branch(up[1], newName(t))[0]
	assert.Greater(t, savedOf(t, up[1]), whole, "nobody would find the template")
	for _, sb := range []*msb.Sandbox{source, up[0], up[1], second} {
		require.NoError(t, sb.Stop(ctx))
	}
	goesOn(t, third, pid, least)
	cli(t, "snapshot", "verify", name).ok(t)
	restored, err := msb.Restore(ctx, name, newName(t))
	require.NoError(t, err)
	branched(t, []*msb.Sandbox{restored})
	goesOn(t, restored, pid, least)
}

// TestBranchedAgain makes copies of a sandbox with much memory of its own again and again: the
// second time all of it becomes a base of its own, and from then on what has changed is saved.
func TestBranchedAgain(t *testing.T) {
	t.Setenv("MSB_GOMSB_TEMPLATES", "off") // so that the guest's whole memory is its own
	ctx := within(t, 8*patience)
	source := createAs(t, newName(t), msb.WithMemory(layersMiB))
	pid := shell(t, source, "mkdir /data; "+counting, msb.WithExecUser("root"))
	shell(t, source, "cd /tmp && head -c 2097152 /dev/urandom > some && sha256sum some > sum")
	least := count(t, source)
	branch := func(of *msb.Sandbox) *msb.Sandbox {
		up, err := of.Branch(ctx, []string{newName(t)})
		branched(t, up)
		require.NoError(t, err)
		for _, sb := range []*msb.Sandbox{up[0], of} {
			goesOn(t, sb, pid, least)
			shell(t, sb, "cd /tmp && sha256sum -c sum")
		}
		return up[0]
	}
	bases := func(elem ...string) string {
		return homePath(append([]string{"sandboxes", source.Name(), "bases"}, elem...)...)
	}

	branch(source)
	all := savedOf(t, source)
	assert.Greater(t, all, int64(20<<20))
	assert.NoDirExists(t, bases(), "who is copied once needs none")

	// Without room for a base all is as before.
	require.NoError(t, os.Mkdir(bases(), 0o700))
	require.NoError(t, unix.Mount("tmpfs", bases(), "tmpfs", 0, "size=3m"))
	unmount := func() { _ = unix.Unmount(bases(), unix.MNT_DETACH) }
	t.Cleanup(unmount)
	branch(source)
	assert.Greater(t, savedOf(t, source), int64(20<<20))
	assert.Contains(t, onHost(t, homePath("sandboxes", source.Name(), "logs", "runtime.log")), "no space left on device")
	left, err := os.ReadDir(bases())
	require.NoError(t, err)
	assert.Empty(t, left)
	unmount()

	branch(source)
	assert.DirExists(t, bases("1"))
	shell(t, source, "head -c 1048576 /dev/urandom > /tmp/more")
	child := branch(source)
	assert.Less(t, savedOf(t, source), all/2)
	assert.NoDirExists(t, bases("2"), "what is saved again and again is little")
	branch(child)
	assert.Less(t, savedOf(t, child), all/2, "it refers to the base of its source")

	// Bases go with the run that made them, and copies need them no more.
	require.NoError(t, source.Stop(ctx))
	assert.NoDirExists(t, bases())
	up, err := child.Branch(ctx, []string{newName(t)})
	branched(t, up)
	require.NoError(t, err)
	goesOn(t, up[0], pid, least)
	assert.Greater(t, savedOf(t, child), all/2, "nobody would find the base")
}

// savedOf is how many bytes were saved of a sandbox the last time.
func savedOf(t *testing.T, sb *msb.Sandbox) int64 {
	t.Helper()
	log := onHost(t, homePath("sandboxes", sb.Name(), "logs", "runtime.log"))
	size := log[strings.LastIndex(log, " bytes=")+len(" bytes="):]
	size, _, _ = strings.Cut(size, "\n")
	n, err := strconv.ParseInt(size, 10, 64)
	require.NoError(t, err, "%s", log)
	t.Log(sb.Name(), "was saved in", n, "bytes")
	return n
}
