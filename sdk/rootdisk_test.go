package microsandbox

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	"github.com/gomsb/gomsb/internal/store"
	"github.com/gomsb/gomsb/rootfs/ext4"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

func imageFile(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, make([]byte, 4096), 0o600))
	return path
}

// What 0.6.18 stores for the same root disks, and tells its runtime.
func TestRootDisksAsOfficial(t *testing.T) {
	raw, qcow2 := imageFile(t, "up.img"), imageFile(t, "up.qcow2")
	const size = uint32(8192)
	upper := observedHome.path("sandboxes", "x", "upper.ext4")
	for name, c := range map[string]struct {
		disk         *RootDiskConfig
		stored       string
		upper        string // of the launch
		format       string
		device, kind string
	}{
		"default":    {nil, `{"kind":"managed","size_mib":4096}`, upper, "", "/dev/vdb", "device"},
		"managed":    {ptr(RootDisk.Managed(size)), `{"kind":"managed","size_mib":8192}`, upper, "", "/dev/vdb", "device"},
		"tmpfs":      {ptr(RootDisk.Tmpfs(RootDiskTmpfsOptions{})), `{"kind":"tmpfs"}`, "", "", "", "tmpfs"},
		"disk image": {ptr(RootDisk.Disk(raw, RootDiskImageOptions{})), `{"kind":"disk-image","path":"` + raw + `","format":"Raw"}`, raw, "raw", "/dev/vdb", "device"},
		"flat": {
			ptr(RootDisk.Flat(RootDiskFlatOptions{SizeMiB: size, Clone: FlatCloneCopy})), `{"kind":"flat","size_mib":8192,"clone":"copy"}`, "", "", "", "",
		},
		"qcow2": {
			ptr(RootDisk.Disk(qcow2, RootDiskImageOptions{Fstype: "xfs"})), `{"kind":"disk-image","path":"` + qcow2 + `","format":"Qcow2","fstype":"xfs"}`, qcow2, "qcow2", "/dev/vdb", "device",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := &SandboxConfig{Name: "x", Image: testImage, RootDisk: c.disk}
			require.NoError(t, cfg.validate())
			s, err := newSpec(cfg, observedImage())
			require.NoError(t, err)
			text, err := json.Marshal(s.Image.OCI.RootDisk)
			require.NoError(t, err)
			assert.JSONEq(t, c.stored, string(text))
			launched, err := s.launchConfig(observedHome, 1, "/x.vmdk")
			require.NoError(t, err)
			assert.Equal(t, c.upper, value(launched.Rootfs.Upper))
			assert.Equal(t, c.format, value(launched.Rootfs.UpperFormat))
			root := launched.Bootstrap.BlockRoot
			if name == "flat" {
				assert.Equal(t, observedHome.path("sandboxes", "x", "rootfs.raw"), value(launched.Rootfs.Disk))
				assert.Equal(t, "raw", value(launched.Rootfs.DiskFormat))
				assert.Equal(t, proto.BlockRoot{Kind: proto.RootDiskImage, Device: "/dev/vda", FSType: "ext4"}, *root)
			} else {
				assert.Equal(t, "/x.vmdk", value(launched.Rootfs.Disk))
				assert.Equal(t, c.device, root.Upper.Device)
				assert.Equal(t, c.kind, string(root.Upper.Kind))
			}

			var again spec
			require.NoError(t, json.Unmarshal(must(json.Marshal(s)), &again))
			assert.Equal(t, s.Image.OCI, again.Image.OCI)
		})
	}
}

func ptr[T any](v T) *T { return &v }

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// Rows of older releases say less about the root.
func TestOldRoots(t *testing.T) {
	for text, want := range map[string]imageSource{
		`{"Oci":{"reference":"a"}}`:                                 {OCI: &ociSource{"a", rootDisk{Kind: "managed"}}},
		`{"Oci":{"reference":"a","upper_size_mib":64}}`:             {OCI: &ociSource{"a", rootDisk{Kind: "managed", SizeMiB: ptr(uint32(64))}}},
		`{"Oci":{"reference":"a","root_disk":{"kind":"managed"}}}`:  {OCI: &ociSource{"a", rootDisk{Kind: "managed"}}},
		`{"Bind":"/srv/root"}`:                                      {Bind: &bindSource{Path: "/srv/root"}},
		`{"Bind":{"path":"/srv/root","follow_root_symlinks":true}}`: {Bind: &bindSource{"/srv/root", true}},
	} {
		var got imageSource
		require.NoError(t, json.Unmarshal([]byte(text), &got))
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{`{"Oci":7}`, `{"Bind":7}`, `{"DiskImage":7}`, `7`} {
		assert.Error(t, json.Unmarshal([]byte(text), new(imageSource)), text)
	}
}

func TestRootDisksThatCannotBe(t *testing.T) {
	image := func(path, format string) RootDiskConfig {
		return RootDisk.Disk(path, RootDiskImageOptions{Format: format})
	}
	for name, c := range map[string]struct {
		disk RootDiskConfig
		opt  SandboxOption
		want string
	}{
		"zero value":       {RootDiskConfig{}, nil, "is made by RootDisk"},
		"memory exceeded":  {RootDisk.Tmpfs(RootDiskTmpfsOptions{SizeMiB: 513}), nil, "does not fit into 512 MiB of memory"},
		"no path":          {image("", "raw"), nil, "needs a path"},
		"format unknown":   {image("/disk", ""), nil, "does not tell the format"},
		"format strange":   {image("/disk", "vhd"), nil, `unknown format "vhd"`},
		"vmdk":             {image("/disk.vmdk", "vmdk"), nil, "cannot be written"},
		"file system":      {RootDisk.Disk("/d.raw", RootDiskImageOptions{Fstype: "ext4,ro"}), nil, "not the name of a file system"},
		"flat file system": {RootDisk.Flat(RootDiskFlatOptions{Fstype: "xfs"}), nil, "flat root disks are ext4"},
		"flat clone":       {RootDisk.Flat(RootDiskFlatOptions{Clone: "x"}), nil, "use auto, copy or reflink"},
		"disk image root":  {RootDisk.Managed(0), WithImageDisk("/d.raw", ""), "goes with an OCI image"},
		"directory root":   {RootDisk.Managed(0), func(c *SandboxConfig) { c.Image, c.ImageBind = "", "/srv" }, "goes with an OCI image"},
		"two roots":        {RootDisk.Managed(0), WithBindRootfs("/srv"), "either image i or directory /srv"},
	} {
		cfg := &SandboxConfig{Name: "a", Image: "i", RootDisk: &c.disk}
		if c.opt != nil {
			c.opt(cfg)
		}
		err := cfg.validate()
		require.True(t, IsKind(err, ErrInvalidConfig), "%s: %v", name, err)
		assert.ErrorContains(t, err, c.want, name)
	}
}

// The managed disk is there from the creation on, grows when the configuration asks for
// more, and its loss is told.
func TestManagedRootDisk(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	sb := create(t, "a", WithRootDisk(RootDisk.Managed(64)))
	upper := filepath.Join(h.sandbox("a"), "upper.ext4")
	inspect := func() ext4.Info {
		f, err := os.Open(upper)
		require.NoError(t, err)
		defer f.Close()
		info, err := ext4.Inspect(f)
		require.NoError(t, err)
		return info
	}
	info := inspect()
	assert.Equal(t, int64(64<<20), info.Size)
	assert.True(t, info.Clean())
	_, err := launch.LockDisk(upper, true)
	assert.ErrorIs(t, err, launch.ErrDiskBusy)
	require.NoError(t, sb.Stop(ctx))
	handle, err := GetSandbox(ctx, "a")
	require.NoError(t, err)
	c, err := handle.Config()
	require.NoError(t, err)
	assert.Equal(t, ptr(RootDisk.Managed(64)), c.RootDisk)

	start := func() error {
		again, err := StartSandbox(ctx, "a")
		if err == nil {
			assert.NoError(t, again.Stop(ctx))
			assert.NoError(t, again.Close())
			<-again.proc.Exited()
		}
		return err
	}
	setRootDisk(t, h, "a", `{"kind":"managed","size_mib":96}`)
	require.NoError(t, start())
	assert.Equal(t, int64(96<<20), inspect().Size)
	assert.Equal(t, info.UUID, inspect().UUID, "grown, not made anew")
	setRootDisk(t, h, "a", `{"kind":"managed","size_mib":32}`)
	require.NoError(t, start())
	assert.Equal(t, int64(96<<20), inspect().Size, "never smaller")

	require.NoError(t, os.WriteFile(upper, make([]byte, 4096), 0o600))
	err = start()
	assert.ErrorIs(t, err, ext4.ErrNotExt4, "what is no file system cannot grow")
	assert.ErrorContains(t, err, upper)
	require.NoError(t, os.Remove(upper))
	err = start()
	require.True(t, IsKind(err, ErrIO), "%v", err)
	assert.ErrorContains(t, err, "put "+upper+" back, or remove the sandbox")
	assert.Equal(t, SandboxStatusStopped, status(t, "a"))
	require.NoError(t, RemoveSandbox(ctx, "a"))
	assert.Empty(t, traces(t, h))
}

// config.json says what root disk a sandbox gets that asks for none.
func TestDefaultRootDisk(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	for name, c := range map[string]struct{ config, want, fails string }{
		"size":      {`{"upper_size_mib":64}`, `{"kind":"managed","size_mib":64}`, ""},
		"managed":   {`{"root_disk":{"kind":"managed","size_mib":32}}`, `{"kind":"managed","size_mib":32}`, ""},
		"tmpfs":     {`{"root_disk":{"kind":"tmpfs"}}`, `{"kind":"tmpfs"}`, ""},
		"null":      {`{"root_disk":null,"upper_size_mib":null}`, `{"kind":"managed","size_mib":4096}`, ""},
		"both":      {`{"root_disk":{"kind":"tmpfs"},"upper_size_mib":64}`, "", "choose one"},
		"image":     {`{"root_disk":{"kind":"disk-image","path":"/d","format":"Raw"}}`, "", "cannot share"},
		"unknown":   {`{"root_disk":{"kind":"tape"}}`, "", "use managed, tmpfs or flat"},
		"too large": {`{"root_disk":{"kind":"tmpfs","size_mib":100000}}`, "", "does not fit into"},
	} {
		require.NoError(t, os.WriteFile(h.configFile, []byte(`{"sandbox_defaults":{"oci":`+c.config+`}}`), 0o600))
		if c.fails != "" {
			_, err := CreateSandbox(ctx, "a", WithImage(testImage))
			assert.True(t, IsKind(err, ErrInvalidConfig), "%s: %v", name, err)
			assert.ErrorContains(t, err, c.fails, name)
			continue
		}
		sb := create(t, "a", WithReplace())
		handle, err := GetSandbox(ctx, "a")
		require.NoError(t, err)
		s, err := parseSpec(handle.ConfigJSON())
		require.NoError(t, err)
		text, err := json.Marshal(s.Image.OCI.RootDisk)
		require.NoError(t, err)
		assert.JSONEq(t, c.want, string(text), name)
		require.NoError(t, sb.Kill(ctx))
	}
	create(t, "own", WithRootDisk(RootDisk.Managed(16)), WithPatches(Patch.Mkdir("/a", PatchOptions{})))
	require.NoError(t, os.WriteFile(h.configFile, []byte(`{"sandbox_defaults":{"oci":{"root_disk":{"kind":"tmpfs"}}}}`), 0o600))
	_, err := CreateSandbox(ctx, "b", WithImage(testImage), WithPatches(Patch.Mkdir("/a", PatchOptions{})))
	assert.ErrorContains(t, err, "patches require a managed root disk")
}

// TestDisksOfImagesStop finds an image unread once the context has ended.
func TestDisksOfImagesStop(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	img, _, err := h.pull(testContext(t), testImage, PullOptions{Policy: PullPolicyNever})
	require.NoError(t, err)
	patched, err := newSpec(&SandboxConfig{Name: "a", Image: testImage, Patches: []PatchConfig{Patch.CopyDir("/etc", "/x", PatchOptions{})}}, img)
	require.NoError(t, err)
	flat, err := newSpec(&SandboxConfig{Name: "b", Image: testImage, RootDisk: ptr(RootDisk.Flat(RootDiskFlatOptions{}))}, img)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, s := range []*spec{patched, flat} {
		b := &boot{catalog: &catalog{home: h}, spec: s, image: img, vmdk: img.VMDK}
		_, err := b.provision(ctx)
		assert.True(t, IsKind(err, ErrCancelled), "%s: %v", s.Name, err)
	}
	left, err := filepath.Glob(h.path("sandboxes", nurseryPrefix+"*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

// A flat disk is a copy of the image's file system; the image itself is not needed any
// more once it is there.
func TestFlatRootDisk(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	_, err := CreateSandbox(ctx, "a", WithImage(testImage), WithRootDisk(RootDisk.Flat(RootDiskFlatOptions{SizeMiB: 100})))
	require.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
	assert.ErrorContains(t, err, "it needs 256 MiB")
	assert.Empty(t, traces(t, h))
	sb, err := CreateSandbox(ctx, "a", WithImage(testImage), WithRootDisk(RootDisk.Flat(RootDiskFlatOptions{Clone: FlatCloneReflink})))
	if err == nil { // it depends on the file system under the test
		require.NoError(t, sb.Kill(ctx))
		require.NoError(t, sb.Close())
		<-sb.proc.Exited()
	} else {
		require.ErrorIs(t, err, sparse.ErrCannotShare)
	}
	sb = create(t, "b", WithRootDisk(RootDisk.Flat(RootDiskFlatOptions{SizeMiB: 256, Clone: FlatCloneCopy})))
	disk := filepath.Join(h.sandbox("b"), "rootfs.raw")
	_, err = launch.LockDisk(disk, true)
	require.ErrorIs(t, err, launch.ErrDiskBusy)
	require.NoError(t, sb.Stop(ctx))
	assert.Contains(t, readImage(t, disk), "mini\n")
	blobs, err := filepath.Glob(filepath.Join(h.cache(), "flat", "blobs", "*.raw"))
	require.NoError(t, err)
	require.Len(t, blobs, 1)
	assert.Equal(t, readImage(t, blobs[0]), readImage(t, disk))

	_, err = Image.Prune(ctx)
	require.NoError(t, err)
	assert.FileExists(t, blobs[0], "a sandbox has the image")
	setRootDisk(t, h, "b", `{"kind":"flat","size_mib":384}`)
	require.NoError(t, os.RemoveAll(filepath.Join(h.cache(), "layers")))
	again, err := StartSandbox(ctx, "b")
	require.NoError(t, err)
	require.NoError(t, again.Stop(ctx))
	require.NoError(t, again.Close())
	<-again.proc.Exited()
	info, err := os.Stat(disk)
	require.NoError(t, err)
	assert.Equal(t, int64(384<<20), info.Size())
	require.NoError(t, RemoveSandbox(ctx, "b"))
}

// setRootDisk changes the stored configuration of a sandbox.
func setRootDisk(t *testing.T, h home, name, disk string) {
	t.Helper()
	ctx := testContext(t)
	db, err := store.Open(ctx, h.database(), store.Options{})
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	row, err := db.Sandbox(ctx, name)
	require.NoError(t, err)
	s, err := parseSpec(row.Config)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal([]byte(disk), &s.Image.OCI.RootDisk))
	require.NoError(t, db.SetConfig(ctx, row.ID, string(must(json.Marshal(s))), nil))
}

// A creation that fails before the start leaves neither a row nor a directory, and one
// that was killed leaves a directory that a later creation clears away.
func TestProvisionLeavesNothing(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	_, err := CreateSandbox(ctx, "a", WithImage(testImage), WithRootDisk(RootDisk.Managed(1)))
	require.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
	assert.ErrorIs(t, err, ext4.ErrOptions)
	assert.Equal(t, SandboxStatus("gone"), status(t, "a"))
	assert.Empty(t, traces(t, h))

	dead := filepath.Join(h.sandboxes(), ".new-1")
	require.NoError(t, os.MkdirAll(filepath.Join(dead, "logs"), 0o700))
	living, err := newNursery(ctx, h.sandboxes())
	require.NoError(t, err)
	defer living.release()
	file := filepath.Join(h.sandboxes(), ".new-3")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	left := filepath.Join(h.sandbox("a"), "left-over")
	require.NoError(t, os.MkdirAll(left, 0o700))
	create(t, "a")
	assert.NoDirExists(t, dead)
	assert.DirExists(t, living.path, "its maker is at it")
	assert.FileExists(t, file)
	assert.NoDirExists(t, left)
}

// A directory of the host as root.
func TestBindRoot(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	dir := t.TempDir()
	sb, err := CreateSandbox(ctx, "a", WithImage(dir))
	require.NoError(t, err)
	require.NoError(t, sb.Kill(ctx))
	require.NoError(t, sb.Close())
	<-sb.proc.Exited()
	handle, err := GetSandbox(ctx, "a")
	require.NoError(t, err)
	assert.Equal(t, dir, handle.Image())
	c, err := handle.Config()
	require.NoError(t, err)
	assert.Equal(t, dir, c.ImageBind)
	assert.Empty(t, c.Image)

	o := observed(t, "run-root-bind")
	s, err := newSpec(&SandboxConfig{Name: "br", ImageBind: dir}, nil)
	require.NoError(t, err)
	at(o.Row, "image", "Bind")["path"] = dir // ours does not depend on where msb was started
	assert.Equal(t, o.Row, generic(t, s))
	launched, err := s.launchConfig(observedHome, 7, "")
	require.NoError(t, err)
	at(o.FD96, "rootfs")["path"] = dir
	text, err := launched.Encode()
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal(text, &got))
	assert.Equal(t, o.FD96["rootfs"], got["rootfs"])
	assert.Equal(t, o.FD96["bootstrap"], got["bootstrap"])

	_, err = CreateSandbox(ctx, "b", WithBindRootfs("/no/such/directory"))
	assert.True(t, IsKind(err, ErrInvalidConfig))
	_, err = CreateSandbox(ctx, "b", WithBindRootfs("/etc/passwd"))
	assert.ErrorContains(t, err, "is not a directory")
	_, err = CreateSandbox(ctx, "b", WithBindRootfs(dir), WithRootDisk(RootDisk.Managed(0)))
	assert.True(t, IsKind(err, ErrInvalidConfig))
}
