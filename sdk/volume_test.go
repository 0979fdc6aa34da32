package microsandbox

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	"github.com/gomsb/gomsb/internal/store"
)

func TestVolumes(t *testing.T) {
	h := newHome(t)
	ctx := testContext(t)
	all, err := ListVolumes(ctx)
	require.NoError(t, err)
	assert.Empty(t, all)
	_, err = GetVolume(ctx, "data")
	assert.True(t, IsKind(err, ErrVolumeNotFound))
	assert.True(t, IsKind(RemoveVolume(ctx, "data"), ErrVolumeNotFound))
	assert.NoFileExists(t, h.database(), "looking makes nothing")

	labels := map[string]string{"team": "x", "a": "b"}
	v, err := CreateVolume(ctx, "data", WithVolumeQuota(64), WithVolumeLabels(labels))
	require.NoError(t, err)
	assert.Equal(t, "data", v.Name())
	assert.Equal(t, filepath.Join(h.root, "volumes", "data"), v.Path())
	_, err = CreateVolume(ctx, "data")
	assert.True(t, IsKind(err, ErrVolumeAlreadyExists))
	assert.EqualError(t, err, "volume already exists: data")
	d, err := CreateVolume(ctx, "disk", WithVolumeKind(VolumeKindDisk), WithVolumeSize(16))
	require.NoError(t, err)
	assert.FileExists(t, filepath.Join(d.Path(), "disk.raw"))

	all, err = ListVolumes(ctx)
	require.NoError(t, err)
	require.Len(t, all, 2)
	disk, dir := all[0], all[1] // newest first
	assert.Equal(t, "disk", disk.Name())
	assert.Equal(t, VolumeKindDisk, disk.Kind())
	assert.EqualValues(t, 16<<20, *disk.CapacityBytes())
	assert.Equal(t, "raw ext4", *disk.DiskFormat()+" "+*disk.DiskFstype())
	assert.Positive(t, disk.UsedBytes())
	assert.Nil(t, disk.QuotaMiB())
	assert.Equal(t, VolumeKindDir, dir.Kind())
	assert.EqualValues(t, 64, *dir.QuotaMiB())
	assert.Equal(t, labels, dir.Labels())
	assert.False(t, dir.CreatedAt().IsZero())
	assert.False(t, dir.IsDefault())
	assert.Nil(t, dir.CapacityBytes())
	assert.Nil(t, dir.DiskFormat())
	assert.Nil(t, dir.DiskFstype())
	require.NoError(t, dir.FS().WriteString(ctx, "f", "12345"))
	assert.EqualValues(t, 5, dir.UsedBytes())

	require.NoError(t, disk.Remove(ctx))
	assert.True(t, IsKind(disk.Remove(ctx), ErrVolumeNotFound))
	require.NoError(t, v.Remove(ctx))
	assert.NoDirExists(t, v.Path())
	assert.NoDirExists(t, d.Path())
	_, err = GetVolume(ctx, "data")
	assert.EqualError(t, err, "volume not found: data")
	assert.Zero(t, dir.UsedBytes())
	assert.True(t, IsKind(RemoveVolume(ctx, "../../etc"), ErrVolumeNotFound))
	_, err = GetDefaultVolume(ctx)
	assert.True(t, IsKind(err, ErrUnsupportedOperation))
}

func TestVolumesThatCannotBe(t *testing.T) {
	h := newHome(t)
	ctx := testContext(t)
	for name, c := range map[string]struct {
		volume string
		opts   []VolumeOption
		want   string
	}{
		"no name":          {"", nil, "volume name must not be empty"},
		"path":             {"../x", nil, "volume name must start with an alphanumeric character and contain only alphanumeric characters, dots, hyphens, and underscores: ../x"},
		"sized directory":  {"v", []VolumeOption{WithVolumeSize(5)}, "a directory has no size"},
		"disk and no size": {"v", []VolumeOption{WithVolumeKind(VolumeKindDisk)}, "a disk needs a size"},
		"tiny disk":        {"v", []VolumeOption{WithVolumeKind(VolumeKindDisk), WithVolumeSize(1)}, "a disk has 8 to 16777215 MiB: got 1"},
		"unknown kind":     {"v", []VolumeOption{WithVolumeKind("tape")}, "use dir or disk"},
	} {
		_, err := CreateVolume(ctx, c.volume, c.opts...)
		assert.True(t, IsKind(err, ErrInvalidConfig), "%s: %v", name, err)
		assert.ErrorContains(t, err, c.want, name)
	}
	require.NoError(t, os.MkdirAll(filepath.Join(h.volumes().Path("mine"), "keep"), 0o700))
	_, err := CreateVolume(ctx, "mine")
	assert.True(t, IsKind(err, ErrInvalidConfig))
	assert.ErrorContains(t, err, "move "+h.volumes().Path("mine")+" away")
	assert.DirExists(t, filepath.Join(h.volumes().Path("mine"), "keep"))
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = CreateVolume(ended, "v")
	assert.True(t, IsKind(err, ErrCancelled), "%v", err)
	all, err := ListVolumes(ctx)
	require.NoError(t, err)
	assert.Empty(t, all)
}

func TestVolumeFs(t *testing.T) {
	newHome(t)
	ctx := testContext(t)
	v, err := CreateVolume(ctx, "v")
	require.NoError(t, err)
	f := v.FS()
	assert.Equal(t, v.Path(), f.Root())
	require.NoError(t, f.Mkdir(ctx, "a/b"))
	require.NoError(t, f.Mkdir(ctx, "a/b"))
	require.NoError(t, f.Write(ctx, "a/b/file", []byte("long text")))
	require.NoError(t, f.WriteString(ctx, "a/b/file", "text"))
	text, err := f.ReadString(ctx, "a/../a/b//file")
	require.NoError(t, err)
	assert.Equal(t, "text", text)
	info, err := os.Stat(filepath.Join(v.Path(), "a/b/file"))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o644), info.Mode())
	for path, want := range map[string]bool{".": true, "a/b/file": true, "a/c": false, "a/b/file/x": false} {
		there, err := f.Exists(ctx, path)
		require.NoError(t, err, path)
		assert.Equal(t, want, there, path)
	}
	_, err = f.Read(ctx, "none")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, err = f.Read(ctx, "a")
	assert.ErrorIs(t, err, syscall.EISDIR)
	assert.ErrorIs(t, f.WriteString(ctx, "none/x", ""), fs.ErrNotExist)
	assert.ErrorIs(t, f.Remove(ctx, "a"), syscall.ENOTEMPTY)
	require.NoError(t, f.Remove(ctx, "a/b/file"))
	require.NoError(t, f.Remove(ctx, "a/b"))
	require.NoError(t, f.RemoveAll(ctx, "a"))
	require.NoError(t, f.RemoveAll(ctx, "a"))

	require.NoError(t, syscall.Mkfifo(filepath.Join(v.Path(), "pipe"), 0o600))
	_, err = f.Read(ctx, "pipe")
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.Error(t, f.WriteString(ctx, "pipe", "x"), "and nobody waits for a reader")
}

func TestVolumeFsStaysInside(t *testing.T) {
	h := newHome(t)
	ctx := testContext(t)
	v, err := CreateVolume(ctx, "v")
	require.NoError(t, err)
	f := v.FS()
	outside := filepath.Join(h.root, "outside")
	require.NoError(t, os.WriteFile(outside, []byte("host"), 0o600))
	require.NoError(t, os.Symlink("../../outside", filepath.Join(v.Path(), "up")))
	require.NoError(t, os.Symlink(outside, filepath.Join(v.Path(), "absolute")))
	require.NoError(t, os.Symlink("/", filepath.Join(v.Path(), "root")))
	require.NoError(t, f.WriteString(ctx, "real", "in"))
	require.NoError(t, os.Symlink("real", filepath.Join(v.Path(), "link")))
	for _, path := range []string{"../../etc/passwd", "/etc/hosts", "a/../../escape", "..", "up", "absolute", "root/etc/passwd"} {
		_, err := f.Read(ctx, path)
		assert.ErrorIs(t, err, ErrPathEscape, path)
		assert.ErrorIs(t, f.WriteString(ctx, path, "x"), ErrPathEscape, path)
		_, err = f.Exists(ctx, path)
		assert.ErrorIs(t, err, ErrPathEscape, path)
	}
	assert.ErrorIs(t, f.Mkdir(ctx, "root/x"), ErrPathEscape)
	assert.ErrorIs(t, f.RemoveAll(ctx, "root/tmp/x"), ErrPathEscape)
	require.NoError(t, f.Remove(ctx, "root"), "the link itself is the volume's")
	text, err := f.ReadString(ctx, "link")
	require.NoError(t, err)
	assert.Equal(t, "in", text)
	b, err := os.ReadFile(outside)
	require.NoError(t, err)
	assert.Equal(t, "host", string(b))

	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = f.Read(ended, "real")
	assert.ErrorIs(t, err, context.Canceled)
	for name, err := range map[string]error{
		"write": f.WriteString(ended, "x", ""), "mkdir": f.Mkdir(ended, "x"), "remove": f.Remove(ended, "real"), "remove all": f.RemoveAll(ended, "real"),
	} {
		assert.ErrorIs(t, err, context.Canceled, name)
	}
	assert.FileExists(t, filepath.Join(v.Path(), "real"))
}

// named mounts a volume that the sandbox may make.
func named(guest, name string, v NamedVolumeOptions) SandboxOption {
	return WithMounts(map[string]MountConfig{guest: Mount.NamedWith(name, MountOptions{}, v)})
}

func TestNamedMounts(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	volumeNames := func() (names []string) {
		all, err := ListVolumes(ctx)
		require.NoError(t, err)
		for _, v := range all {
			names = append(names, v.Name())
		}
		return names
	}
	ensure := NamedVolumeOptions{Mode: "ensure-exists"}
	_, err := CreateSandbox(ctx, "a", WithImage(testImage), named("/d", "none", NamedVolumeOptions{}))
	require.True(t, IsKind(err, ErrVolumeNotFound), "%v", err)
	assert.Equal(t, SandboxStatus("gone"), status(t, "a"))

	sb := create(t, "a", named("/d", "data", NamedVolumeOptions{Mode: "create", QuotaMiB: 5}), named("/again", "data", ensure),
		named("/disk", "disk", NamedVolumeOptions{Mode: "ensure-exists", Kind: "disk", SizeMiB: 16}))
	assert.ElementsMatch(t, []string{"data", "disk"}, volumeNames())
	v, err := GetVolume(ctx, "data")
	require.NoError(t, err)
	assert.EqualValues(t, 5, *v.QuotaMiB())
	require.NoError(t, sb.Stop(ctx))
	sb, err = StartSandbox(ctx, "a")
	require.NoError(t, err)
	require.NoError(t, sb.Stop(ctx))
	<-sb.proc.Exited()

	for want, opt := range map[string]SandboxOption{
		"volume already exists: data": named("/d", "data", NamedVolumeOptions{Mode: "create"}),
		`named volume "data" already exists as dir, but this sandbox requested disk`:                                 named("/d", "data", NamedVolumeOptions{Mode: "ensure-exists", Kind: "disk", SizeMiB: 16}),
		`named volume "disk" already exists as disk, but this sandbox requested dir`:                                 named("/d", "disk", ensure),
		`named volume "data" already exists with a quota of 5 MiB, but this sandbox requested 6 MiB`:                 named("/d", "data", NamedVolumeOptions{Mode: "ensure-exists", QuotaMiB: 6}),
		`named volume "disk" already exists with capacity 16777216 bytes, but this sandbox requested 33554432 bytes`: named("/d", "disk", NamedVolumeOptions{Mode: "ensure-exists", Kind: "disk", SizeMiB: 32}),
		"mount /d: volume disk is a disk: stat virtualization, host permissions and owner belong to directories":     WithMounts(map[string]MountConfig{"/d": Mount.Named("disk", MountOptions{Owner: &MountOwner{}})}),
	} {
		_, err := CreateSandbox(ctx, "b", WithImage(testImage), WithEphemeral(true), named("/0new", "new", ensure), opt)
		assert.EqualError(t, err, want)
		assert.Equal(t, SandboxStatus("gone"), status(t, "b"))
		assert.ElementsMatch(t, []string{"data", "disk"}, volumeNames(), "nothing was made for %s", want)
	}

	require.NoError(t, RemoveVolume(ctx, "data"), "a sandbox that is stopped does not keep it")
	_, err = StartSandbox(ctx, "a")
	assert.True(t, IsKind(err, ErrVolumeNotFound), "and it is not made again: %v", err)
	assert.Equal(t, SandboxStatusStopped, status(t, "a"))
}

func TestVolumesInUse(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	dir := named("/d", "data", NamedVolumeOptions{Mode: "ensure-exists"})
	disk := named("/disk", "disk", NamedVolumeOptions{Mode: "ensure-exists", Kind: "disk", SizeMiB: 16})
	writer := create(t, "writer", dir, disk)
	for _, name := range []string{"data", "disk"} {
		err := RemoveVolume(ctx, name)
		assert.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
		assert.EqualError(t, err, `volume "`+name+`" is attached to active sandbox "writer"`)
	}
	create(t, "sharer", dir) // directories are shared
	_, err := CreateSandbox(ctx, "second", WithImage(testImage), disk)
	require.ErrorIs(t, err, launch.ErrDiskBusy)
	_, err = CreateSandbox(ctx, "twice", WithImage(testImage), WithReplace(), named("/1", "disk", NamedVolumeOptions{}), named("/2", "disk", NamedVolumeOptions{}))
	assert.True(t, IsKind(err, ErrInvalidConfig))
	assert.EqualError(t, err, `a disk cannot be attached more than once per sandbox: volume "disk"`)
	assert.Equal(t, SandboxStatus("gone"), status(t, "twice"))
	require.NoError(t, writer.Stop(ctx))

	reader := WithMounts(map[string]MountConfig{"/disk": Mount.Named("disk", MountOptions{Readonly: true})})
	first, second := create(t, "reader1", reader), create(t, "reader2", reader)
	_, err = StartSandbox(ctx, "writer")
	assert.ErrorIs(t, err, launch.ErrDiskBusy)
	require.NoError(t, syscall.Kill(first.proc.PID(), syscall.SIGKILL))
	<-first.proc.Exited()
	require.NoError(t, second.Kill(ctx))

	// Somebody may use the image without us, and is not disturbed.
	f, err := launch.LockDisk(filepath.Join(home{root: os.Getenv("MSB_HOME")}.volumes().Disk("disk")), true)
	require.NoError(t, err)
	assert.ErrorIs(t, RemoveVolume(ctx, "disk"), launch.ErrDiskBusy)
	require.NoError(t, f.Close())
	require.NoError(t, RemoveVolume(ctx, "disk"), "the killed sandbox has nothing any more")
	assert.Error(t, RemoveVolume(ctx, "data"), "the sharer has it")
}

// What a sandbox made that did not come to be is gone with it.
func TestVolumesOfFailedSandboxes(t *testing.T) {
	fresh := named("/d", "fresh", NamedVolumeOptions{Mode: "create"})
	exists := func(t *testing.T) bool {
		_, err := GetVolume(testContext(t), "fresh")
		if err != nil {
			require.True(t, IsKind(err, ErrVolumeNotFound), "%v", err)
		}
		return err == nil
	}
	t.Run("cancelled", func(t *testing.T) {
		newGuests(t, runtimetest.Guest{BootTime: time.Hour})
		ctx, cancel := context.WithCancel(testContext(t))
		defer cancel()
		go func() {
			for status(t, "a") != SandboxStatusRunning && ctx.Err() == nil {
				time.Sleep(10 * time.Millisecond)
			}
			cancel()
		}()
		_, err := CreateSandbox(ctx, "a", WithImage(testImage), fresh)
		require.True(t, IsKind(err, ErrCancelled), "%v", err)
		assert.False(t, exists(t))
	})
	broken := runtimetest.Guest{BootFailure: &proto.CoreError{Kind: "mount", Message: "no"}}
	t.Run("ephemeral", func(t *testing.T) {
		newGuests(t, broken)
		_, err := CreateSandbox(testContext(t), "a", WithImage(testImage), fresh, WithEphemeral(true))
		require.Error(t, err)
		assert.False(t, exists(t))
	})
	t.Run("kept", func(t *testing.T) {
		newGuests(t, broken)
		_, err := CreateSandbox(testContext(t), "a", WithImage(testImage), fresh)
		require.Error(t, err)
		assert.True(t, exists(t), "the sandbox stays, and wants it when it starts again")
	})
	t.Run("filled by others", func(t *testing.T) {
		h := newGuests(t, broken)
		cat, err := openCatalog(testContext(t), h, true)
		require.NoError(t, err)
		defer cat.close()
		v, err := CreateVolume(testContext(t), "fresh")
		require.NoError(t, err)
		require.NoError(t, v.FS().WriteString(testContext(t), "f", "x"))
		b := &boot{catalog: cat, made: []store.Volume{v.handle.row}}
		require.NoError(t, b.eraseMade(testContext(t)))
		assert.True(t, exists(t))
		require.NoError(t, v.FS().Remove(testContext(t), "f"))
		b.made = []store.Volume{v.handle.row}
		require.NoError(t, b.eraseMade(testContext(t)))
		assert.False(t, exists(t))
	})
}

func TestQuotaLeft(t *testing.T) {
	h := newHome(t)
	ctx := testContext(t)
	v, err := CreateVolume(ctx, "v", WithVolumeQuota(3))
	require.NoError(t, err)
	s := &spec{Mounts: []mountSpec{{Type: "Named", Name: "v", Guest: "/d"}}, volumes: map[string]foundVolume{"v": {v.handle.row, h.volumes()}}}
	for size, want := range map[int64]string{0: "3", 1: "3", 1 << 20: "2", 3<<20 - 1: "1", 3 << 20: "0", 1 << 30: "0"} {
		require.NoError(t, v.FS().WriteString(ctx, "f", ""))
		require.NoError(t, os.Truncate(filepath.Join(v.Path(), "f"), size))
		c := &launch.Config{}
		require.NoError(t, s.launchMounts(c))
		assert.Equal(t, []string{"d_4823e769:" + v.Path() + ":quota=" + want}, c.Mounts, size)
	}
	require.NoError(t, os.RemoveAll(v.Path()))
	err = s.launchMounts(&launch.Config{})
	assert.True(t, IsKind(err, ErrIO), "%v", err)
}

// Whoever is first has the volume; the others see it or its absence, never a part.
func TestVolumesAtTheSameTime(t *testing.T) {
	newHome(t)
	ctx := testContext(t)
	var wg sync.WaitGroup
	var made, removed atomic.Int32
	for range 8 {
		wg.Go(func() {
			_, err := CreateVolume(ctx, "v", WithVolumeKind(VolumeKindDisk), WithVolumeSize(16))
			if err == nil {
				made.Add(1)
			} else {
				assert.True(t, IsKind(err, ErrVolumeAlreadyExists), "%v", err)
			}
		})
		wg.Go(func() {
			err := RemoveVolume(ctx, "v")
			if err == nil {
				removed.Add(1)
			} else {
				assert.True(t, IsKind(err, ErrVolumeNotFound), "%v", err)
			}
		})
	}
	wg.Wait()
	v, err := GetVolume(ctx, "v")
	if err == nil {
		assert.Equal(t, made.Load(), removed.Load()+1)
		assert.FileExists(t, filepath.Join(v.Path(), "disk.raw"))
	} else {
		assert.Equal(t, made.Load(), removed.Load())
	}
}

// volumesEnv makes the test binary create and remove a volume until it is killed.
const volumesEnv = "GOMSB_TEST_VOLUMES"

func createAndRemoveVolumes() {
	ctx := context.Background()
	for parent := os.Getppid(); os.Getppid() == parent; { // nor longer than the test
		_, err := CreateVolume(ctx, "v", WithVolumeKind(VolumeKindDisk), WithVolumeSize(16))
		if err = errors.Join(err, RemoveVolume(ctx, "v")); err != nil {
			panic(err)
		}
	}
}

// Whatever a killed process was about, the next one can go on.
func TestVolumesOfKilledProcesses(t *testing.T) {
	h := newHome(t)
	ctx := testContext(t)
	for range 20 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), volumesEnv+"=1")
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		require.Eventually(t, func() bool { _, err := os.Stat(filepath.Join(string(h.volumes()), ".locks")); return err == nil }, time.Minute, time.Millisecond)
		time.Sleep(rand.N(50 * time.Millisecond))
		require.NoError(t, cmd.Process.Kill())
		err := cmd.Wait()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal(), "it went on until it was killed")
		v, err := GetVolume(ctx, "v")
		if err == nil {
			require.FileExists(t, filepath.Join(v.Path(), "disk.raw"), "what is listed is there")
			require.NoError(t, v.Remove(ctx))
		}
	}
	v, err := CreateVolume(ctx, "v")
	require.NoError(t, err)
	require.NoError(t, v.Remove(ctx))
	left, err := os.ReadDir(string(h.volumes()))
	require.NoError(t, err)
	assert.Len(t, left, 1, "the locks")
}

// Rows of other programs, or of a later release, still keep a volume from being removed.
func TestWhoMountsAVolume(t *testing.T) {
	with := func(name string) string {
		b, err := json.Marshal(&spec{Image: imageSource{Disk: &diskSource{}}, Mounts: []mountSpec{{Type: "Tmpfs"}, {Type: "Named", Name: name}}})
		require.NoError(t, err)
		return string(b)
	}
	for name, c := range map[string]struct {
		row  store.Sandbox
		want bool
	}{
		"now":        {store.Sandbox{ActiveConfig: with("v"), Config: "{}"}, true},
		"later":      {store.Sandbox{ActiveConfig: "{}", Config: with("v")}, true},
		"another":    {store.Sandbox{ActiveConfig: with("w"), Config: with("w")}, false},
		"none":       {store.Sandbox{Config: "{}"}, false},
		"unreadable": {store.Sandbox{Config: "{"}, true},
	} {
		assert.Equal(t, c.want, mountsVolume(c.row, "v"), name)
	}
}
