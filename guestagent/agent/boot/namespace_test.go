//go:build linux

package boot

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/agent/hostlink"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// insideVar selects what the copy of the test program does in its own name spaces.
const insideVar = "GOMSB_BOOT_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(insideVar) != "" {
		inside()
		return
	}
	os.Exit(m.Run())
}

// becomes is the value of insideVar for a guest that becomes another after its boot.
const becomes = "2"

// loopback is a network of the interface that every name space has.
func loopback(n string) *proto.Network {
	all := network(n)
	all.Interface, all.MTU, all.IPv6 = "lo", 1400, nil
	return all
}

// inside boots from a tiny root made of memory, and then prints what a guest would see.
func inside() {
	must := func(err error) {
		if err != nil {
			fmt.Println("FAIL", err)
			os.Exit(1)
		}
	}
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(unix.Mount("tmpfs", "/mnt", "tmpfs", 0, ""))
	for _, dir := range TinyRoot {
		must(os.Mkdir("/mnt/"+dir, 0o755))
	}
	must(unix.Chroot("/mnt"))
	must(unix.Chdir("/"))
	host := hostlink.Adopt(3)
	res, err := Run(host)
	if err != nil {
		Report(host, err)
		fmt.Println("FAIL", err)
		os.Exit(1)
	}
	if os.Getenv(insideVar) == becomes {
		must(unix.Mount("/dev/null", "/etc/hostname", "", unix.MS_BIND, "")) // users do the strangest things
		say := func(text string) { fmt.Println("said", text) }
		gone := loopback("3") // somebody has renamed the interface
		gone.Interface = "gone0"
		must(become(&proto.Renew{Hostname: "middle", HostAlias: "host.alias", Network: gone}, res.Network, say))
		must(become(&proto.Renew{Hostname: "copy", HostAlias: "host.alias", Network: loopback("2")}, gone, say))
	}
	fmt.Printf("result %q %q %q %v %d %v\n", res.Env, res.DefaultUser, res.DefaultCwd, res.Restricted, res.Upper, res.Handoff != nil)
	for _, name := range []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/proc/sys/kernel/hostname", "/proc/self/mounts"} {
		text, err := os.ReadFile(name)
		if !errors.Is(err, os.ErrNotExist) {
			must(err)
		}
		fmt.Printf("file %s %q\n", name, text)
	}
	var limit syscall.Rlimit
	must(syscall.Getrlimit(unix.RLIMIT_CORE, &limit))
	fmt.Println("core", limit.Cur, limit.Max)
	for _, dir := range []string{"/tmp", "/var/tmp", "/.msb/scripts", "/dev/fd", "/mnt/a/b"} {
		st, err := os.Lstat(dir)
		must(err)
		fmt.Println("mode", dir, st.Mode())
	}
	lo, err := os.ReadFile("/proc/net/fib_trie")
	must(err)
	for _, line := range regexp.MustCompile(`10\.0\.\d\.2\b`).FindAllString(string(lo), 1) {
		fmt.Println("address", line)
	}
	fmt.Println("loopback", strings.Contains(string(lo), "127.0.0.1"))
}

// bootInside runs inside with a host that sends b, and returns what it printed and the
// messages it sent.
func bootInside(t *testing.T, b *proto.Bootstrap) (out string, said []proto.Message) {
	t.Helper()
	return runInside(t, "1", b)
}

// runInside is bootInside with a value for insideVar.
func runInside(t *testing.T, what string, b *proto.Bootstrap) (out string, said []proto.Message) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	host, guest := hostlink.Adopt(fds[0]), os.NewFile(uintptr(fds[1]), "guest")
	defer host.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), insideVar+"="+what)
	cmd.ExtraFiles = []*os.File{guest}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC}
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	require.NoError(t, cmd.Start())
	require.NoError(t, guest.Close())
	_, err = host.Write(message(t, 0, proto.Generation, proto.TypeBootstrap, 0, b))
	require.NoError(t, err)
	require.NoError(t, host.SetReadTimeout(30*time.Second))
	in := proto.NewReader(host)
	for {
		f, err := in.ReadFrame()
		if err != nil {
			break
		}
		f.Body = bytes.Clone(f.Body)
		m, err := proto.ParseMessage(f)
		require.NoError(t, err)
		said = append(said, m)
		if m.Type == proto.TypeInitResolved {
			_, err = host.Write(message(t, 0, proto.Generation, proto.TypeInitAck, 0, proto.Empty{}))
			if !errors.Is(err, unix.EPIPE) { // it may have failed and gone by now
				require.NoError(t, err)
			}
		}
	}
	_ = cmd.Wait() // the output says what went wrong
	return text.String(), said
}

func TestBootInNameSpaces(t *testing.T) {
	t.Parallel()
	out, said := bootInside(t, &proto.Bootstrap{
		// Memory in the place of a disk: the type is given, so the device does not matter.
		BlockRoot: &proto.BlockRoot{Kind: proto.RootDiskImage, Device: "/dev/none", FSType: "tmpfs"},
		Hostname:  "box", User: "12:34", DefaultCwd: "/x", SecurityProfile: proto.ProfileRestricted,
		DefaultEnv: []proto.EnvVar{{Key: "A", Value: "1"}}, Rlimits: []proto.Rlimit{{Resource: "core", Soft: 1, Hard: 2}},
		TmpfsMounts: []proto.TmpfsMount{{Path: "/mnt/a/b", SizeMiB: ptr(uint32(1)), Mode: ptr(uint32(0o711))}, {Path: "/mnt/a", Flags: proto.MountFlags{NoExec: true}}},
	})
	require.Len(t, said, 1, out)
	var who proto.InitResolved
	require.NoError(t, said[0].Decode(&who))
	assert.Equal(t, proto.DefaultUser{UID: 12, GID: 34}, who.DefaultUser)
	for _, want := range []string{
		`result ["HOME=/" "TERM=linux" "A=1" "PATH=/.msb/scripts:`, `"12:34" "/x" true -1 false`,
		`file /etc/hosts "127.0.0.1\tlocalhost box\n`, `file /etc/hostname "box\n"`, `file /etc/resolv.conf ""`,
		`file /proc/sys/kernel/hostname "box\n"`,
		"core 1 2\n", "mode /tmp dtrwxrwxrwx\n", "mode /var/tmp dtrwxrwxrwx\n", "mode /.msb/scripts drwxr-xr-x\n", "mode /dev/fd L", "mode /mnt/a/b drwx--x--x\n",
		" /proc proc rw,nosuid,nodev,noexec,relatime", " /sys sysfs rw,nosuid,nodev,noexec,relatime", " /dev devtmpfs rw,relatime",
		" /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime", " /dev/pts devpts rw,nosuid,noexec,relatime", " /dev/shm tmpfs rw,nosuid,noexec,relatime",
		" /mnt/a tmpfs rw,nosuid,nodev,noexec,relatime,mode=755", " /mnt/a/b tmpfs rw,nosuid,nodev,relatime,size=1024k,mode=711",
		" /.msb tmpfs ", "loopback true\n",
	} {
		assert.Contains(t, out, want)
	}
}

// TestBecomeInNameSpaces: a guest that has booted becomes another one, and that another; there
// is no interface for the first. A file that is none
// any more is left alone.
func TestBecomeInNameSpaces(t *testing.T) {
	t.Parallel()
	out, _ := runInside(t, becomes, &proto.Bootstrap{
		BlockRoot: &proto.BlockRoot{Kind: proto.RootDiskImage, Device: "/dev/none", FSType: "tmpfs"},
		Hostname:  "box", HostAlias: "host.alias", Network: loopback("1"), TmpfsMounts: []proto.TmpfsMount{{Path: "/mnt/a/b"}},
	})
	for _, want := range []string{
		`file /etc/hosts "127.0.0.1\tlocalhost copy\n::1\tlocalhost ip6-localhost ip6-loopback copy\n10.0.2.1\thost.alias\nfe00::`,
		`file /etc/resolv.conf "nameserver 10.0.2.1\n"`, `file /proc/sys/kernel/hostname "copy\n"`,
		`said the copy goes on without a network: find interface "gone0"`, "said edit /etc/hostname: ", "loopback true\n", "address 10.0.2.2\n",
	} {
		assert.Contains(t, out, want)
	}
	assert.NotContains(t, out, "10.0.1.")
	assert.NotContains(t, out, "10.0.3.")
}

func TestBootFailsInNameSpaces(t *testing.T) {
	t.Parallel()
	root := &proto.BlockRoot{Kind: proto.RootDiskImage, Device: "/dev/none", FSType: "tmpfs"}
	for name, test := range map[string]struct {
		b    proto.Bootstrap
		kind proto.ErrorKind
		text string
	}{
		"no root":         {proto.Bootstrap{}, KindConfig, "names no block device for the root"},
		"no disk":         {proto.Bootstrap{BlockRoot: &proto.BlockRoot{Kind: proto.RootDiskImage, Device: "/dev/none", FSType: "ext4"}}, KindImage, "mount the root: /dev/none as ext4"},
		"no image":        {proto.Bootstrap{BlockRoot: &proto.BlockRoot{Kind: proto.RootOCIErofs, Lower: "/dev/none", Upper: &proto.Upper{Kind: proto.UpperTmpfs}}}, KindImage, "mount the image /dev/none"},
		"unknown user":    {proto.Bootstrap{BlockRoot: root, User: "who"}, KindConfig, "resolve the default user: guest user not found: who"},
		"no interface":    {proto.Bootstrap{BlockRoot: root, Network: &proto.Network{Interface: "eth9"}}, KindNetwork, `find interface "eth9"`},
		"no share":        {proto.Bootstrap{BlockRoot: root, DirMounts: []proto.DirMount{{Tag: "t", GuestPath: "/x"}}}, KindMount, "mount on /x: "},
		"no file":         {proto.Bootstrap{BlockRoot: root, FileMounts: []proto.FileMount{{Tag: "t", Filename: "f", GuestPath: "/x/f"}}}, KindMount, "mount on /x/f: "},
		"no such disk":    {proto.Bootstrap{BlockRoot: root, DiskMounts: []proto.DiskMount{{ID: "no-such-serial", GuestPath: "/x"}}}, KindMount, "no disk has the serial"},
		"bad tmpfs":       {proto.Bootstrap{BlockRoot: root, TmpfsMounts: []proto.TmpfsMount{{Path: "/proc/x"}}}, KindMount, "mount on /proc/x: "},
		"hostname":        {proto.Bootstrap{BlockRoot: root, Hostname: strings.Repeat("h", 100)}, KindConfig, "set the host name"},
		"probe the types": {proto.Bootstrap{BlockRoot: &proto.BlockRoot{Kind: proto.RootDiskImage, Device: "/dev/none"}}, KindImage, "mount the root: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, said := bootInside(t, &test.b)
			require.NotEmpty(t, said, out)
			last := said[len(said)-1]
			require.Equal(t, proto.TypeError, last.Type, out)
			var p proto.CoreError
			require.NoError(t, last.Decode(&p))
			assert.Equal(t, test.kind, p.Kind)
			assert.Contains(t, p.Message, test.text)
		})
	}
}
