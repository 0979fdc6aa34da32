//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// Patches are what the guest finds at its first boot, and once only.
func TestPatches(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sub", "f"), []byte("copied"), 0o640))
	require.NoError(t, os.Symlink("sub/f", filepath.Join(dir, "link")))
	binary := string(random(t, 5, 70000))
	mode := uint32(0o4750)
	sb := create(t, msb.WithPatches(
		msb.Patch.Text("/opt/deep/text", "hello\n", msb.PatchOptions{}),
		msb.Patch.Text("/opt/deep/binary", binary, msb.PatchOptions{Mode: &mode}),
		msb.Patch.Append("/etc/passwd", "patched:x:7:7::/:/bin/sh\n"),
		msb.Patch.Mkdir("/tmp/made", msb.PatchOptions{}),
		msb.Patch.Remove("/bin/vi"),
		msb.Patch.Symlink("/opt/deep/text", "/opt/link", msb.PatchOptions{}),
		msb.Patch.CopyDir(dir, "/opt/copy", msb.PatchOptions{}),
		msb.Patch.Remove("/usr"), msb.Patch.Mkdir("/usr", msb.PatchOptions{}), // whose lower children stay away
	), msb.WithScripts(map[string]string{"greet": "#!/bin/sh\necho \"greetings, $1\"\n"}))
	plain := shared(t)
	assert.Equal(t, "hello", shell(t, sb, "cat /opt/link"))
	got, err := sb.FS().Read(within(t, patience), "/opt/deep/binary")
	require.NoError(t, err)
	assert.Equal(t, binary, string(got))
	assert.Equal(t, "4750 0:0 640 750 sub/f", shell(t, sb, "echo $(stat -c '%a %u:%g' /opt/deep/binary) $(stat -c %a /opt/copy/sub/f /opt/copy/sub) $(readlink /opt/copy/link)"))
	assert.Equal(t, "copied", shell(t, sb, "cat /opt/copy/link"))
	assert.Equal(t, shell(t, plain, "cat /etc/passwd")+"\npatched:x:7:7::/:/bin/sh", shell(t, sb, "cat /etc/passwd"))
	const attributes = "stat -c '%a %u:%g' / /etc /etc/passwd /bin"
	assert.Equal(t, shell(t, plain, attributes), shell(t, sb, attributes), "what is not patched keeps its attributes")
	assert.Equal(t, "gone", shell(t, sb, "test -e /bin/vi || echo gone"))
	assert.Empty(t, shell(t, sb, "ls -A /usr"))
	assert.Equal(t, "greetings, all", shell(t, sb, "greet all"))
	shell(t, sb, "rm -r /opt/deep; rm /.msb/scripts/greet")
	require.NoError(t, sb.Stop(within(t, patience)))
	assertClean(t, upperOf(sb))
	sb = start(t, sb.Name())
	assert.Equal(t, "copy link", shell(t, sb, "echo $(ls /opt)"))
	assert.Equal(t, "greetings, again", shell(t, sb, "greet again"), "scripts are there at each start")
}

func TestPatchFlags(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	require.NoError(t, os.WriteFile(file, []byte("copied\n"), 0o644))
	r := cli(t, "run", "-q", "--copy", file+":/etc/copied", "--mkdir", "/a/b", "--rm", "/bin/vi", "--script", `show=cat /etc/copied\necho second`, "mini", "--", "sh", "-c",
		"show; ls -d /a/b; test -e /bin/vi || echo gone")
	assert.Equal(t, "copied\nsecond\n/a/b\ngone\n", r.ok(t))
	r = cli(t, "run", "-q", "--copy", file+":/bin/busybox", "mini", "--", "true")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "patch failed: ")
	assert.Contains(t, r.stderr, "/bin/busybox")
	assert.Empty(t, cli(t, "ls", "-q").sandboxes(), "it leaves no sandbox")
}
