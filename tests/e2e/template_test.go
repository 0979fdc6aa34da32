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

	msb "github.com/gomsb/gomsb/sdk"
)

// templateMiB is a size of memory that no other test has, so that the templates of it are
// this test's.
const templateMiB = 96

// copied reports whether a sandbox is a copy of a boot template.
func copied(t *testing.T, name string) bool {
	t.Helper()
	b, err := os.ReadFile(homePath("sandboxes", name, "logs", "runtime.log"))
	require.NoError(t, err)
	return strings.Contains(string(b), "copy of a boot template")
}

// templates lists the boot templates of this test's size.
func templates(t *testing.T) (dirs []string) {
	t.Helper()
	files, err := filepath.Glob(homePath("cache", "gomsb", "templates", "*", "machine"))
	require.NoError(t, err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(b), `"memory_mib":`+strconv.Itoa(templateMiB)) {
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
	eventually(t, "its template is made", func() bool { return len(templates(t)) == 1 })
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
	eventually(t, "the second template is made", func() bool { return len(templates(t)) == 2 })
	d, nameD := create(mount)
	assert.True(t, copied(t, nameD))
	assert.Equal(t, "shared", shell(t, d, "cat /data/file"))

	// What is damaged is not used, and made again.
	for _, dir := range templates(t) {
		f, err := os.OpenFile(filepath.Join(dir, "memory"), os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte("damage"), 17<<20)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	e, nameE := create()
	assert.False(t, copied(t, nameE))
	assert.Equal(t, "there", shell(t, e, "echo there"))
	eventually(t, "it is made again", func() bool { return len(templates(t)) == 2 })

	t.Setenv("MSB_GOMSB_TEMPLATES", "off")
	_, nameF := create()
	assert.False(t, copied(t, nameF), "templates are switched off")
}
