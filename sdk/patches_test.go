package microsandbox

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	"github.com/gomsb/gomsb/rootfs/ext4"
	"github.com/gomsb/gomsb/rootfs/patch"
)

// The row that 0.6.18 keeps of these patches.
func TestPatchesAsOfficial(t *testing.T) {
	cfg := &SandboxConfig{Name: "p", Image: testImage}
	WithPatches(
		Patch.CopyFile("/srv/f.txt", "/etc/f.txt", PatchOptions{}), Patch.CopyDir("/srv/dd", "/opt/dd", PatchOptions{}), Patch.Mkdir("/a/b", PatchOptions{}),
		Patch.Remove("/etc/hostname"), Patch.Text("/t", "text", PatchOptions{Mode: ptr(uint32(0o600)), Replace: true}), Patch.Text("/bin", "\xff\x00", PatchOptions{}),
		Patch.Append("/t", "more"), Patch.Symlink("/t", "/l", PatchOptions{}),
	)(cfg)
	WithScripts(map[string]string{"hello": "#!/bin/sh\necho hello\n"})(cfg)
	require.NoError(t, cfg.validate())
	s, err := newSpec(cfg, observedImage())
	require.NoError(t, err)
	text, err := json.Marshal(s.Patches)
	require.NoError(t, err)
	assert.JSONEq(t, `[
		{"CopyFile":{"src":"/srv/f.txt","dst":"/etc/f.txt","mode":null,"replace":false}},
		{"CopyDir":{"src":"/srv/dd","dst":"/opt/dd","replace":false}},
		{"Mkdir":{"path":"/a/b","mode":null}},
		{"Remove":{"path":"/etc/hostname"}},
		{"Text":{"path":"/t","content":"text","mode":384,"replace":true}},
		{"File":{"path":"/bin","content":[255,0],"mode":null,"replace":false}},
		{"Append":{"path":"/t","content":"more"}},
		{"Symlink":{"target":"/t","link":"/l","replace":false}}]`, string(text))
	assert.Equal(t, at(observed(t, "run-identity").Row, "runtime")["scripts"], at(generic(t, s), "runtime")["scripts"])
	out := s.config()
	assert.Equal(t, cfg.Patches, out.Patches)
	assert.Equal(t, cfg.Scripts, out.Scripts)

	s.Patches = append(s.Patches, json.RawMessage(`{"Chmod":{"path":"/t"}}`))
	assert.Len(t, s.config().Patches, len(cfg.Patches), "what a later release made is no obstacle")
}

func TestPatchesThatCannotBe(t *testing.T) {
	patches := WithPatches(Patch.Mkdir("/a", PatchOptions{}))
	for name, opts := range map[string][]SandboxOption{
		"tmpfs":            {patches, WithRootDisk(RootDisk.Tmpfs(RootDiskTmpfsOptions{}))},
		"flat":             {patches, WithRootDisk(RootDisk.Flat(RootDiskFlatOptions{}))},
		"disk image":       {patches, WithRootDisk(RootDisk.Disk("/d.raw", RootDiskImageOptions{}))},
		"disk image root":  {patches, WithImageDisk("/d.raw", "")},
		"snapshot":         {patches, func(c *SandboxConfig) { c.Image, c.Snapshot = "", "s" }},
		"zero value":       {WithPatches(PatchConfig{})},
		"relative":         {WithPatches(Patch.Mkdir("a", PatchOptions{}))},
		"binary appendix":  {WithPatches(Patch.Append("/a", "\xff"))},
		"script path":      {WithScripts(map[string]string{"a/b": ""})},
		"script dots":      {WithScripts(map[string]string{"..": ""})},
		"script no name":   {WithScripts(map[string]string{"": ""})},
		"script long name": {WithScripts(map[string]string{string(make([]byte, 300)): ""})},
	} {
		cfg := &SandboxConfig{Name: "a", Image: "i"}
		for _, o := range opts {
			o(cfg)
		}
		assert.True(t, IsKind(cfg.validate(), ErrInvalidConfig), "%s: %v", name, cfg.validate())
	}
}

// Patches are in the upper, on the root as the image has it; those that fail leave no
// sandbox.
func TestPatchesAreBaked(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	source := filepath.Join(t.TempDir(), "source")
	require.NoError(t, os.WriteFile(source, []byte("copied"), 0o600))
	_, err := CreateSandbox(ctx, "a", WithImage(testImage), WithPatches(Patch.Text("/etc/hostname", "x", PatchOptions{})))
	require.True(t, IsKind(err, ErrPatchFailed), "%v", err)
	assert.ErrorIs(t, err, patch.ErrExists)
	assert.ErrorContains(t, err, "patch failed: text /etc/hostname: file exists")
	_, err = CreateSandbox(ctx, "a", WithImage(testImage), WithRootDisk(RootDisk.Managed(8)), WithPatches(Patch.Text("/big", string(make([]byte, 1<<20)), PatchOptions{}), Patch.CopyFile("/proc/self/exe", "/exe", PatchOptions{})))
	require.True(t, IsKind(err, ErrPatchFailed), "%v", err)
	assert.ErrorIs(t, err, ext4.ErrSpace)
	assert.Equal(t, SandboxStatus("gone"), status(t, "a"))
	assert.Empty(t, traces(t, h))

	create(t, "a", WithPatches(Patch.CopyFile(source, "/etc/copied", PatchOptions{}), Patch.Append("/etc/hostname", "more")), WithScripts(map[string]string{"hi": "#!/bin/sh\n"}))
	upper := readImage(t, filepath.Join(h.sandbox("a"), "upper.ext4"))
	assert.Contains(t, upper, "copied")
	assert.Contains(t, upper, "mini\nmore")
	script := filepath.Join(h.runtime("a"), "scripts", "hi")
	info, err := os.Stat(script)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o755), info.Mode())
}

// readImage is the beginning of an image as a string.
func readImage(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, 128<<20)
	n, err := f.Read(b)
	require.NoError(t, err)
	return string(b[:n])
}

func TestPatchesOfADirectory(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	dir := t.TempDir()
	_, err := CreateSandbox(ctx, "a", WithImage(dir), WithPatches(Patch.Text("/f", "x", PatchOptions{}), Patch.Append("/none", "x")))
	require.True(t, IsKind(err, ErrPatchFailed), "%v", err)
	assert.NoFileExists(t, filepath.Join(dir, "f"))
	assert.Empty(t, traces(t, h))
	sb, err := CreateSandbox(ctx, "a", WithImage(dir), WithPatches(Patch.Text("/d/f", "x", PatchOptions{})))
	require.NoError(t, err)
	require.NoError(t, sb.Kill(ctx))
	require.NoError(t, sb.Close())
	<-sb.proc.Exited()
	assert.FileExists(t, filepath.Join(dir, "d", "f"))
	_, err = CreateSandbox(ctx, "a", WithImage(dir), WithPatches(Patch.Text("/second", "x", PatchOptions{})))
	require.True(t, IsKind(err, ErrSandboxAlreadyExists))
	assert.NoFileExists(t, filepath.Join(dir, "second"), "nothing is done for a sandbox that cannot be")
}

// What a guest left among the scripts leads nowhere.
func TestScriptsStayInside(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	require.NoError(t, os.WriteFile(outside, []byte("kept"), 0o600))
	s := &spec{Runtime: runtimeSpec{Scripts: map[string]string{"a": "A", "b": "B", "c": "C"}}}
	check := func() {
		t.Helper()
		require.NoError(t, s.writeScripts(dir))
		for name, want := range s.Runtime.Scripts {
			info, err := os.Lstat(filepath.Join(dir, "scripts", name))
			require.NoError(t, err)
			assert.Equal(t, os.FileMode(0o755), info.Mode())
			b, err := os.ReadFile(filepath.Join(dir, "scripts", name))
			require.NoError(t, err)
			assert.Equal(t, want, string(b))
		}
		b, err := os.ReadFile(outside)
		require.NoError(t, err)
		assert.Equal(t, "kept", string(b))
	}
	check()
	scripts := filepath.Join(dir, "scripts")
	require.NoError(t, os.Remove(filepath.Join(scripts, "a")))
	require.NoError(t, os.Symlink(outside, filepath.Join(scripts, "a")))
	require.NoError(t, os.Remove(filepath.Join(scripts, "b")))
	require.NoError(t, os.MkdirAll(filepath.Join(scripts, "b", "below"), 0o700))
	check()
	require.NoError(t, os.RemoveAll(scripts))
	require.NoError(t, os.Symlink(filepath.Dir(outside), scripts))
	check()
	entries, err := os.ReadDir(scripts)
	require.NoError(t, err)
	assert.Len(t, entries, 3, "no temporary files")
	assert.Error(t, s.writeScripts(filepath.Join(dir, "none")))
}
