//go:build linux && fuse

package passthrough

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestLikeTheHostsOwn carries out the same system calls in a share and in a directory of
// the host's own file system, for several users, and compares what they give and what
// becomes of the trees. The areas are those of pjdfstest: open, link, unlink, rename,
// mkdir, rmdir, symlink, mknod, mkfifo, chmod, chown, truncate, utimensat, and attributes.
func TestLikeTheHostsOwn(t *testing.T) {
	for _, cfg := range []Config{
		{Stat: StatStrict}, {Stat: StatRelaxed}, {Stat: StatStrict, Perms: PermsMirror}, {Stat: StatStrict, Descriptors: 1},
	} {
		t.Run(fmt.Sprint(cfg.Stat, cfg.Perms, cfg.Descriptors), func(t *testing.T) {
			cfg.Root = t.TempDir()
			_, share := mounted(t, cfg)
			own := openDir(t)
			// Both begin alike.
			require.NoError(t, os.Chmod(own, 0o755))
			require.NoError(t, os.Chmod(share, 0o755))
			compare(t, [2]string{own, share}, cfg.Root, cfg.Stat, 20000)
		})
	}
}

func compare(t *testing.T, roots [2]string, host string, stat StatMode, steps int) {
	runtime.LockOSThread() // whose user changes
	defer func() {
		become(0)
		runtime.UnlockOSThread()
	}()
	old := unix.Umask(0o022)
	defer unix.Umask(old)
	seed := rand.Uint64()
	if text := os.Getenv("SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var log []string
	for i := range steps {
		uid := []int{0, 0, 1000, 1001}[rng.IntN(4)]
		op := randomOp(rng)
		if stat == StatRelaxed && strings.HasPrefix(op.text, "symlink") {
			uid = 0 // to whom all such links belong
		}
		var got [2]string
		for k, root := range roots {
			become(uid)
			got[k] = op.run(root)
			become(0)
		}
		if why := agree(t, roots[1], host); why != "" {
			t.Fatalf("the guest and the host do not agree: %s\n%s", why, strings.Join(append(log[max(0, len(log)-12):], op.text), "\n"))
		}
		log = append(log, fmt.Sprintf("%d as %d: %s = %s", i, uid, op.text, got[0]))
		if got[0] != got[1] {
			t.Fatalf("the share says %s\n%s", got[1], strings.Join(log[max(0, len(log)-12):], "\n"))
		}
		if i%10 == 9 {
			a, b := tree(t, roots[0], stat), tree(t, roots[1], stat)
			if a != b {
				require.Equal(t, a, b, "after\n%s", strings.Join(log[max(0, len(log)-12):], "\n"))
			}
		}
		if i%500 == 499 {
			for _, root := range roots {
				list, err := os.ReadDir(root)
				require.NoError(t, err)
				for _, e := range list {
					require.NoError(t, os.RemoveAll(filepath.Join(root, e.Name())))
				}
			}
		}
	}
}

// agree compares what the guest thinks of its files with what they are.
func agree(t *testing.T, share, host string) (why string) {
	err := filepath.WalkDir(host, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		var real, seen unix.Stat_t
		require.NoError(t, unix.Lstat(path, &real))
		rel := strings.TrimPrefix(path, host)
		if err := unix.Lstat(share+rel, &seen); err != nil {
			why = fmt.Sprintf("%s: %v", rel, err)
		} else if real.Ino != seen.Ino || real.Nlink != seen.Nlink || !d.IsDir() && real.Size != seen.Size {
			why = fmt.Sprintf("%s: it is inode %d with %d bytes and %d links, not %d, %d, %d", rel, real.Ino, real.Size, real.Nlink, seen.Ino, seen.Size, seen.Nlink)
		}
		return nil
	})
	require.NoError(t, err)
	return why
}

// SEED=N repeats a run that failed.

// become changes the user of this thread, as far as files are concerned.
func become(uid int) {
	if uid == 0 {
		_, _, _ = syscall.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0)
		_, _, _ = syscall.RawSyscall(unix.SYS_SETRESGID, 0, 0, 0)
		return
	}
	_, _, _ = syscall.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
	_, _, _ = syscall.RawSyscall(unix.SYS_SETRESGID, ^uintptr(0), uintptr(uid), ^uintptr(0))
	_, _, _ = syscall.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0))
}

// randomOp is one system call, or a few that belong together.
type randomCall struct {
	text string
	run  func(root string) string
}

func result(err error) string {
	if err == nil {
		return "ok"
	}
	if e, ok := err.(syscall.Errno); ok {
		return unix.ErrnoName(e)
	}
	return err.Error()
}

func randomOp(rng *rand.Rand) randomCall {
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	name := func() string { return pick("a", "b", "c", "d", "e") }
	path := func() string {
		switch rng.IntN(12) {
		case 0:
			return pick(strings.Repeat("n", 255), strings.Repeat("n", 256), "a/", ".", "d/.", "a/a/a", "nothing/x")
		case 1, 2, 3, 4:
			return name() + "/" + name()
		}
		return name()
	}
	mode := func() uint32 {
		return []uint32{0o644, 0o600, 0o755, 0o700, 0o777, 0, 0o4755, 0o2755, 0o1777, 0o6711, 0o2775, 0o444, 0o222, 0o7777}[rng.IntN(14)]
	}
	p, q, m := path(), path(), mode()
	uid, gid := []int{-1, 0, 1000, 1001}[rng.IntN(4)], []int{-1, 0, 1000, 1001}[rng.IntN(4)]
	if uid == -1 && gid == -1 {
		uid = 0 // the FUSE client does not tell the server of a change of nothing
	}
	at := func(root, p string) string { return root + "/" + p }
	call := func(f func(root string) string, format string, args ...any) randomCall {
		return randomCall{fmt.Sprintf(format, args...), f}
	}
	switch rng.IntN(24) {
	case 0, 1, 2:
		flags := []int{0, unix.O_EXCL, unix.O_TRUNC, unix.O_EXCL | unix.O_TRUNC, unix.O_APPEND, unix.O_NOFOLLOW, unix.O_DIRECTORY}[rng.IntN(7)] |
			[]int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR}[rng.IntN(3)] | unix.O_CREAT | unix.O_NONBLOCK
		return call(func(root string) string { return writeSome(at(root, p), flags, m) }, "open(%s, %#x, %o)", p, flags, m)
	case 3, 4:
		flags := []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_TRUNC, unix.O_RDWR | unix.O_APPEND, unix.O_RDONLY | unix.O_NOFOLLOW, unix.O_RDONLY | unix.O_DIRECTORY}[rng.IntN(7)] | unix.O_NONBLOCK
		return call(func(root string) string { return writeSome(at(root, p), flags, m) }, "open(%s, %#x)", p, flags)
	case 5, 6:
		return call(func(root string) string { return result(unix.Mkdir(at(root, p), m)) }, "mkdir(%s, %o)", p, m)
	case 7:
		return call(func(root string) string { return result(unix.Rmdir(at(root, p))) }, "rmdir(%s)", p)
	case 8:
		return call(func(root string) string { return result(unix.Unlink(at(root, p))) }, "unlink(%s)", p)
	case 9, 10:
		return call(func(root string) string { return result(unix.Rename(at(root, p), at(root, q))) }, "rename(%s, %s)", p, q)
	case 11:
		flags := uint([]int{unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE, unix.RENAME_WHITEOUT, unix.RENAME_WHITEOUT | unix.RENAME_NOREPLACE}[rng.IntN(4)])
		return call(func(root string) string {
			return result(unix.Renameat2(unix.AT_FDCWD, at(root, p), unix.AT_FDCWD, at(root, q), flags))
		}, "renameat2(%s, %s, %d)", p, q, flags)
	case 12, 13:
		return call(func(root string) string { return result(unix.Link(at(root, p), at(root, q))) }, "link(%s, %s)", p, q)
	case 14:
		target := pick("a", "b", "nothing", "a/b", ".", strings.Repeat("t", 300))
		return call(func(root string) string { return result(unix.Symlink(target, at(root, p))) }, "symlink(%s, %s)", target, p)
	case 15:
		kind := []uint32{unix.S_IFREG, unix.S_IFIFO, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFSOCK}[rng.IntN(5)]
		return call(func(root string) string { return result(unix.Mknod(at(root, p), kind|m, int(unix.Mkdev(7, 300)))) }, "mknod(%s, %o)", p, kind|m)
	case 16, 17:
		return call(func(root string) string { return result(unix.Chmod(at(root, p), m)) }, "chmod(%s, %o)", p, m)
	case 18, 19:
		return call(func(root string) string { return result(unix.Chown(at(root, p), uid, gid)) }, "chown(%s, %d, %d)", p, uid, gid)
	case 20:
		n := []int64{0, 1, 5, 4096, 70000, -1}[rng.IntN(6)]
		return call(func(root string) string { return result(unix.Truncate(at(root, p), n)) }, "truncate(%s, %d)", p, n)
	case 21:
		ts := []unix.Timespec{{Sec: int64(rng.IntN(1000)), Nsec: 5}, {Sec: int64(rng.IntN(1000)), Nsec: 6}}
		if rng.IntN(3) == 0 {
			ts[0].Nsec, ts[1].Nsec = unix.UTIME_OMIT, unix.UTIME_NOW
		}
		return call(func(root string) string {
			err := unix.UtimesNanoAt(unix.AT_FDCWD, at(root, p), ts, unix.AT_SYMLINK_NOFOLLOW)
			var st unix.Stat_t
			if err == nil && ts[1].Nsec < 1e9 && unix.Lstat(at(root, p), &st) == nil {
				return fmt.Sprint(st.Mtim) // looking at it may change the other one
			}
			return result(err)
		}, "utimensat(%s, %v)", p, ts)
	case 22:
		key, value := pick("user.a", "user.b", "user.", "trusted.x", "nothing"), pick("", "v", strings.Repeat("v", 500))
		if key == "trusted.x" || key == "nothing" || key == "user." {
			key = "user.c"
		}
		return call(func(root string) string {
			if rng := len(value); rng == 1 {
				return result(unix.Removexattr(at(root, p), key))
			}
			return result(unix.Setxattr(at(root, p), key, []byte(value), 0))
		}, "setxattr(%s, %s, %d bytes)", p, key, len(value))
	}
	return call(func(root string) string {
		return fmt.Sprint(result(unix.Access(at(root, p), unix.R_OK)), result(unix.Access(at(root, p), unix.W_OK)), result(unix.Access(at(root, p), unix.X_OK)))
	}, "access(%s)", p)
}

// writeSome opens a file, writes to it and reads it.
func writeSome(path string, flags int, mode uint32) string {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, mode)
	if err != nil {
		return result(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return result(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Sprintf("type %o", st.Mode&unix.S_IFMT)
	}
	_, werr := unix.Write(fd, []byte("some content"))
	buf := make([]byte, 100)
	n, rerr := unix.Pread(fd, buf, 0)
	if err := unix.Fstat(fd, &st); err != nil {
		return result(err)
	}
	return fmt.Sprintf("%s %s %q %o %d", result(werr), result(rerr), buf[:max(n, 0)], st.Mode, st.Size)
}

// tree describes all files below a directory.
func tree(t *testing.T, root string, stat StatMode) string {
	var b bytes.Buffer
	inodes := map[uint64]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		var st unix.Stat_t
		require.NoError(t, unix.Lstat(path, &st))
		rel := strings.TrimPrefix(path, root)
		if stat == StatRelaxed && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			st.Uid, st.Gid = 0, 0 // which such a link does not keep
		}
		fmt.Fprintf(&b, "%s %o %d:%d nlink %d", rel, st.Mode, st.Uid, st.Gid, st.Nlink)
		require.Equal(t, d.Type(), fs.FileMode(typeOf(st.Mode)), rel)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			fmt.Fprintf(&b, " %d bytes %q", st.Size, bytes.TrimRight(content, "\x00"))
			xattrs := make([]byte, 1000)
			n, err := unix.Listxattr(path, xattrs)
			require.NoError(t, err)
			fmt.Fprintf(&b, " %d", n)
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			require.NoError(t, err)
			fmt.Fprintf(&b, " -> %s (%d)", target, st.Size)
		case unix.S_IFCHR, unix.S_IFBLK:
			fmt.Fprintf(&b, " device %x", st.Rdev)
		}
		if st.Nlink > 1 && !d.IsDir() {
			if first, ok := inodes[st.Ino]; ok {
				fmt.Fprintf(&b, " = %s", first)
			}
			inodes[st.Ino] = rel
		}
		b.WriteByte('\n')
		return nil
	})
	require.NoError(t, err)
	return b.String()
}

func typeOf(mode uint32) fs.FileMode {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return fs.ModeDir
	case unix.S_IFLNK:
		return fs.ModeSymlink
	case unix.S_IFIFO:
		return fs.ModeNamedPipe
	case unix.S_IFSOCK:
		return fs.ModeSocket
	case unix.S_IFCHR:
		return fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		return fs.ModeDevice
	}
	return 0
}
