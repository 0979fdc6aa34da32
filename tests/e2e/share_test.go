//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	msb "github.com/gomsb/gomsb/sdk"
)

func bind(guest, host string, o msb.MountOptions) msb.SandboxOption {
	return msb.WithMounts(map[string]msb.MountConfig{guest: msb.Mount.Bind(host, o)})
}

// fails runs a script that must fail, and returns what it said.
func fails(t *testing.T, sb *msb.Sandbox, script string, opts ...msb.ExecOption) string {
	t.Helper()
	out, err := sb.Shell(within(t, patience), script, opts...)
	require.NoError(t, err)
	assert.NotZero(t, out.ExitCode(), script)
	return out.Stdout() + out.Stderr()
}

func hostFile(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
}

func onHost(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.TrimSuffix(string(b), "\n")
}

// TestBindDirectory shares a directory with one sandbox after the other.
func TestBindDirectory(t *testing.T) {
	dir := t.TempDir()
	hostFile(t, filepath.Join(dir, "host"), "from the host\n")
	require.NoError(t, os.Symlink("/etc/hostname", filepath.Join(dir, "link")))
	sb := create(t, bind("/mnt/dir", dir, msb.MountOptions{}), bind("/mnt/quota", t.TempDir(), msb.MountOptions{QuotaMiB: 2}), msb.WithUser("1234:5678"))
	assert.Equal(t, "from the host", shell(t, sb, "cat /mnt/dir/host"))
	assert.Equal(t, "1234 5678", shell(t, sb, "stat -c '%u %g' /mnt/dir/host"), "what belongs to the host's user is the default user's")
	assert.Equal(t, sb.Name(), shell(t, sb, "cat /mnt/dir/link"), "a link leads to where it leads in the guest")
	shell(t, sb, "echo from the guest > /mnt/dir/guest")
	assert.Equal(t, "from the guest", onHost(t, filepath.Join(dir, "guest")))
	root := msb.WithExecUser("root")
	shell(t, sb, `cd /mnt/dir; mkdir -m 1750 d; echo x > d/f; chown 5:6 d/f; chmod 4711 d/f; ln -s f d/l; ln d/f d/h; mknod d/null c 1 3; mkfifo d/p`, root)
	info, err := os.Lstat(filepath.Join(dir, "d/null"))
	require.NoError(t, err)
	assert.True(t, info.Mode().IsRegular(), "the host gets no devices")
	assert.Zero(t, info.Mode()&0o077, "nor anything that others may read")
	for range 50 {
		hostFile(t, filepath.Join(dir, "moving"), "again\n")
	}
	shell(t, sb, "cat /mnt/dir/moving; ls -la /mnt/dir >/dev/null")

	assert.Contains(t, fails(t, sb, "dd if=/dev/zero of=/mnt/quota/big bs=1M count=3 2>&1"), "No space left")
	shell(t, sb, "rm /mnt/quota/big; sleep 1; dd if=/dev/zero of=/mnt/quota/big bs=1M count=2 2>/dev/null")
	assert.Equal(t, "2048", shell(t, sb, "df -k /mnt/quota | tail -1 | awk '{print $2}'"))
	assert.Equal(t, "virtiofs", shell(t, sb, "awk '$2 == \"/.msb\" {print $3}' /proc/mounts"))
	assert.Contains(t, fails(t, sb, "dd if=/dev/zero of=/.msb/big bs=1M count=17 2>&1", root), "No space left")
	require.NoError(t, sb.Stop(within(t, patience)))

	sb = create(t, bind("/data", dir, msb.MountOptions{Readonly: true}))
	assert.Equal(t, "5 6 4711\n0 0 1750\n2", shell(t, sb, "cd /data/d; stat -c '%u %g %a' f .; stat -c %h f"))
	assert.Equal(t, "f\ncharacter special file\nfifo", shell(t, sb, "cd /data/d; readlink l; stat -c %F null p"))
	assert.Contains(t, fails(t, sb, "echo x > /data/new"), "Read-only")
	assert.Contains(t, fails(t, sb, "mount -o remount,rw /data && echo x > /data/new"), "Read-only", "whatever the guest thinks")
	assert.NoFileExists(t, filepath.Join(dir, "new"))
}

// TestBindFile shares one file, also after an editor of the host has replaced it.
func TestBindFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config")
	hostFile(t, file, "one\n")
	hostFile(t, filepath.Join(dir, "secret"), "x")
	sb := create(t, bind("/etc/app/config", file, msb.MountOptions{}), bind("/ro", file, msb.MountOptions{Readonly: true}))
	assert.Equal(t, "one", shell(t, sb, "cat /etc/app/config"))
	shell(t, sb, "echo two >> /etc/app/config")
	assert.Equal(t, "one\ntwo", onHost(t, file))
	assert.Contains(t, fails(t, sb, "echo x > /ro"), "Read-only")
	assert.Equal(t, "config", shell(t, sb, "ls /etc/app"))
	hostFile(t, file+".new", "replaced\n")
	require.NoError(t, os.Rename(file+".new", file))
	assert.Equal(t, "replaced", shell(t, sb, "sleep 6; cat /etc/app/config"))
	assert.Equal(t, "replaced", shell(t, sb, "cat /ro"))
	shell(t, sb, "echo again > /etc/app/config")
	assert.Equal(t, "again", onHost(t, file))
}

// TestBindModes shares a directory in the other ways.
func TestBindModes(t *testing.T) {
	off, mirror := t.TempDir(), t.TempDir()
	sb := create(t,
		bind("/off", off, msb.MountOptions{StatVirtualization: msb.StatVirtualizationOff}),
		bind("/mirror", mirror, msb.MountOptions{HostPermissions: msb.HostPermissionsMirror, StatVirtualization: msb.StatVirtualizationRelaxed, Noexec: true}))
	shell(t, sb, "umask 022; for d in off mirror; do echo x > /$d/f; chmod 755 /$d/f; mkdir /$d/d; ln -s f /$d/l; done")
	for _, dir := range []string{off, mirror} {
		for name, mode := range map[string]uint32{"f": unix.S_IFREG | 0o755, "d": unix.S_IFDIR | 0o755, "l": unix.S_IFLNK | 0o777} {
			var st unix.Stat_t
			require.NoError(t, unix.Lstat(filepath.Join(dir, name), &st))
			assert.Equal(t, mode, st.Mode, name)
		}
	}
	fails(t, sb, "chown 5:5 /off/f")
	fails(t, sb, "mknod /off/n c 1 3")
	shell(t, sb, "chown 5:5 /mirror/f")
	out, err := sb.Shell(within(t, patience), "printf '#!/bin/sh\n' > /mirror/x; chmod 755 /mirror/x; /mirror/x")
	require.NoError(t, err)
	assert.Equal(t, 126, out.ExitCode())
}

// TestProgramsOnAShare runs what people run in shared directories.
func TestProgramsOnAShare(t *testing.T) {
	dir := t.TempDir()
	sb := create(t, msb.WithImage("debian"), bind("/work", dir, msb.MountOptions{}), msb.WithMemory(768))
	shell(t, sb, `set -e; cd /work
git init -q a; cd a; git config user.email a@b; git config user.name n
for i in 1 2 3 4 5 6; do mkdir -p d$((i%3)); echo line $i > d$((i%3))/f$i; done; ln -s d1 l; printf '#!/bin/sh\n' > run; chmod 755 run
git add .; git commit -qm one; git status --porcelain | grep . && exit 1; git gc -q; cd ..; git clone -q a c; test -L c/l; test -x c/run; diff -r a/d1 c/d1`)
	shell(t, sb, `cd /work; python3 - <<'P'
import mmap, fcntl, os
f = open('m', 'w+b'); f.truncate(1 << 20); m = mmap.mmap(f.fileno(), 1 << 20); m[5:10] = b'hello'; m.flush(); m.close()
assert open('m', 'rb').read(10)[5:] == b'hello'
a, b = open('m'), open('m'); fcntl.flock(a, fcntl.LOCK_EX)
try:
    fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB); raise SystemExit('both have the lock')
except BlockingIOError:
    pass
P
tar -C /usr/lib/python3 -cf x.tar . ; mkdir t; tar -C t -xf x.tar; diff -r --no-dereference /usr/lib/python3 t; rm -rf t`)
	assert.Equal(t, "hello", onHost(t, filepath.Join(dir, "m"))[5:10])
}

// TestBindsThatCannotBe leave no sandbox behind.
func TestBindsThatCannotBe(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(t.TempDir(), link))
	for name, host := range map[string]string{"missing": "/no/such/dir", "link": link} {
		_, err := msb.CreateSandbox(within(t, patience), newName(t), msb.WithImage("mini"), bind("/m", host, msb.MountOptions{}))
		assert.ErrorContains(t, err, host, name)
	}
	sb := create(t, bind("/m", link, msb.MountOptions{FollowRootSymlinks: true}))
	shell(t, sb, "echo x > /m/f")
	assert.FileExists(t, filepath.Join(link, "f"))
}
