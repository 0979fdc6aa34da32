//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// attributeChecks are about extended attributes. They are no part of POSIX, but git, tar,
// and package managers want them.
func attributeChecks() (all []check) {
	for name, f := range map[string]func(dir string) error{
		"set-get-remove": setGetRemove,
		"create-replace": createReplace,
		"list":           listAttributes,
		"sizes":          attributeSizes,
		"of-links":       attributesOfLinks,
		"permissions":    attributePermissions,
		"of-directories": attributesOfDirectories,
		"keep-ctime":     attributesAndTimes,
		"trusted":        trustedAttributes,
		"capability":     capabilities,
	} {
		all = append(all, check{name: "attributes/" + name, run: f})
	}
	return all
}

func getAttribute(path, name string) (string, error) {
	buf := make([]byte, 1<<16)
	n, err := unix.Lgetxattr(path, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func setGetRemove(dir string) error {
	path := dir + "/f"
	if err := errors.Join(touch(path), unix.Setxattr(path, "user.a", []byte("value\x00bytes"), 0)); err != nil {
		return err
	}
	value, err := getAttribute(path, "user.a")
	if err := errors.Join(err, expect("the value", value, "value\x00bytes"), unix.Setxattr(path, "user.a", nil, 0)); err != nil {
		return err
	}
	value, err = getAttribute(path, "user.a")
	if err := errors.Join(err, expect("an empty value", value, ""), unix.Removexattr(path, "user.a")); err != nil {
		return err
	}
	_, err = getAttribute(path, "user.a")
	return errors.Join(expectErrno("get", err, unix.ENODATA), expectErrno("remove", unix.Removexattr(path, "user.a"), unix.ENODATA))
}

func createReplace(dir string) error {
	path := dir + "/f"
	return errors.Join(touch(path),
		expectErrno("replace nothing", unix.Setxattr(path, "user.a", []byte("1"), unix.XATTR_REPLACE), unix.ENODATA),
		unix.Setxattr(path, "user.a", []byte("1"), unix.XATTR_CREATE),
		expectErrno("create again", unix.Setxattr(path, "user.a", []byte("2"), unix.XATTR_CREATE), unix.EEXIST),
		unix.Setxattr(path, "user.a", []byte("2"), unix.XATTR_REPLACE))
}

func listAttributes(dir string) error {
	path := dir + "/f"
	if err := errors.Join(touch(path), unix.Setxattr(path, "user.one", nil, 0), unix.Setxattr(path, "user.two", []byte("2"), 0)); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	n, err := unix.Listxattr(path, buf)
	if err != nil {
		return err
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	names = slices.DeleteFunc(names, func(s string) bool { return !strings.HasPrefix(s, "user.") })
	slices.Sort(names)
	_, short := unix.Listxattr(path, buf[:3])
	length, err := unix.Listxattr(path, nil)
	return errors.Join(err, expect("the names", strings.Join(names, " "), "user.one user.two"), expectErrno("a short list", short, unix.ERANGE), expect("the length asked for", length, n))
}

func attributeSizes(dir string) error {
	path := dir + "/f"
	value := bytes.Repeat([]byte("v"), 2000)
	if err := errors.Join(touch(path), unix.Setxattr(path, "user.a", value, 0)); err != nil {
		return err
	}
	_, short := unix.Getxattr(path, "user.a", make([]byte, 10))
	length, err := unix.Getxattr(path, "user.a", nil)
	return errors.Join(err, expect("the length", length, 2000), expectErrno("a short buffer", short, unix.ERANGE),
		expectErrno("a long name", unix.Setxattr(path, "user."+strings.Repeat("n", 251), value, 0), unix.ERANGE),
		expectErrno("no name", unix.Setxattr(path, "user.", value, 0), unix.EINVAL),
		expectErrno("no prefix", unix.Setxattr(path, "nothing", value, 0), unix.EOPNOTSUPP),
		expectErrno("a long value", unix.Setxattr(path, "user.a", make([]byte, 65537), 0), unix.E2BIG))
}

// attributesOfLinks and of what is no file or directory: there are no user's ones.
func attributesOfLinks(dir string) error {
	path := dir + "/l"
	err := errors.Join(unix.Symlink("nowhere", path), unix.Mkfifo(dir+"/p", 0o644))
	return errors.Join(err, expectErrno("a link's", unix.Lsetxattr(path, "user.a", []byte("1"), 0), unix.EPERM),
		expectErrno("a pipe's", unix.Setxattr(dir+"/p", "user.a", []byte("1"), 0), unix.EPERM))
}

func attributePermissions(dir string) error {
	path := dir + "/f"
	if err := errors.Join(touch(path), unix.Setxattr(path, "user.a", []byte("1"), 0), unix.Chmod(path, 0o644)); err != nil {
		return err
	}
	var set, get error
	var value string
	err := (identity{uid: 1000, gid: 1000}).act(func() {
		set = unix.Setxattr(path, "user.a", []byte("2"), 0)
		value, get = getAttribute(path, "user.a")
	})
	return errors.Join(err, get, expectErrno("who may only read", set, unix.EACCES), expect("the value", value, "1"))
}

func attributesOfDirectories(dir string) error {
	if err := unix.Setxattr(dir, "user.a", []byte("1"), 0); err != nil {
		return err
	}
	value, err := getAttribute(dir, "user.a")
	return errors.Join(err, expect("the value", value, "1"), unix.Mkdir(dir+"/d", 0o1777), func() error {
		var set error
		err := (identity{uid: 1000, gid: 1000}).act(func() { set = unix.Setxattr(dir+"/d", "user.a", []byte("1"), 0) })
		return errors.Join(err, expectErrno("another's sticky directory", set, unix.EPERM))
	}())
}

func attributesAndTimes(dir string) error {
	s := script{dir: dir}
	if err := s.run("create f 644\nmark f\ntick"); err != nil {
		return err
	}
	if err := unix.Setxattr(dir+"/f", "user.a", []byte("1"), 0); err != nil {
		return err
	}
	return s.run("changed f ctime\nkept f mtime")
}

// trustedAttributes are root's; a file system need not have them.
func trustedAttributes(dir string) error {
	path := dir + "/f"
	if err := touch(path); err != nil {
		return err
	}
	err := unix.Setxattr(path, "trusted.a", []byte("1"), 0)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	value, getErr := getAttribute(path, "trusted.a")
	if err := errors.Join(err, getErr, expect("the value", value, "1")); err != nil {
		return err
	}
	var set, get error
	err = (identity{uid: 1000, gid: 1000}).act(func() {
		set = unix.Setxattr(path, "trusted.a", []byte("2"), 0)
		_, get = getAttribute(path, "trusted.a")
	})
	return errors.Join(err, expectErrno("set by a user", set, unix.EPERM), expectErrno("get by a user", get, unix.ENODATA))
}

// capabilities of a program vanish when it is written.
func capabilities(dir string) error {
	path := dir + "/f"
	if err := touch(path); err != nil {
		return err
	}
	value := make([]byte, 20)
	value[3], value[5] = 2, 0x20 // revision 2, CAP_NET_RAW
	err := unix.Setxattr(path, "security.capability", value, 0)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set: %w", err)
	}
	got, err := getAttribute(path, "security.capability")
	if err != nil || len(got) != len(value) {
		return fmt.Errorf("get %q: %w", got, err)
	}
	if err := writeFile(path, "new", unix.O_WRONLY); err != nil {
		return err
	}
	_, err = getAttribute(path, "security.capability")
	return expectErrno("after a write", err, unix.ENODATA)
}
