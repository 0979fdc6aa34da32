//go:build linux

package main

import "strings"

// timeChecks are about which times a call changes.
func timeChecks() (all []check) {
	add := func(name, script string) { all = append(all, check{name: "times/" + name, script: script}) }
	// What changes a directory, done in d; f is a file in it.
	for name, call := range map[string]string{
		"create": "create d/n 644", "mkdir": "mkdir d/n 755", "mkfifo": "mkfifo d/n 644", "mknod": "mknod d/n char 644 1 3", "symlink": "symlink x d/n",
		"link": "link d/f d/n", "unlink": "unlink d/f", "rmdir": "rmdir d/e", "rename": "rename d/f d/n", "rename-in": "rename g d/n", "rename-out": "rename d/f g",
	} {
		add("directory-"+name, "mkdir d 755\ncreate d/f 644\nmkdir d/e 755\ncreate g 644\nmark d\ntick\n"+call+"\nchanged d mtime ctime")
	}
	for name, call := range map[string]string{
		"create": "create d/f 644 EEXIST", "mkdir": "mkdir d/f 755 EEXIST", "symlink": "symlink x d/f EEXIST", "unlink": "unlink d/e EISDIR|EPERM", "rmdir": "rmdir d/f ENOTDIR",
		"rename": "rename d/f d/e EISDIR", "foreign-unlink": "1000 unlink d/f EACCES", "foreign-mkdir": "1000 mkdir d/n 755 EACCES",
	} {
		add("directory-failed-"+name, "mkdir d 755\ncreate d/f 644\nmkdir d/e 755\nmark d\ntick\n"+call+"\nkept d mtime ctime")
	}
	for name, c := range map[string]struct{ call, changed, kept string }{
		"chmod":       {"chmod f 600", "ctime", "mtime"},
		"chown":       {"chown f 5 5", "ctime", "mtime"},
		"link":        {"link f n", "ctime", "mtime"},
		"unlink":      {"unlink other", "ctime", "mtime"},
		"write":       {"write f x", "mtime ctime", ""},
		"append":      {"append f x", "mtime ctime", ""},
		"truncate":    {"truncate f 1", "mtime ctime", ""},
		"extend":      {"truncate f 100", "mtime ctime", ""},
		"open-trunc":  {"open f w,trunc", "mtime ctime", ""},
		"utimes":      {"utimes f 5.0 -", "ctime", "mtime"},
		"utimes-now":  {"utimes f now now", "mtime ctime", ""},
		"read":        {"read f text", "", "mtime ctime"},
		"open":        {"open f rw", "", "mtime ctime"},
		"rename":      {"rename f f", "", "mtime"},
		"not-chmod":   {"1000 chmod f 600 EPERM", "", "mtime ctime"},
		"not-chown":   {"1000 chown f 5 5 EPERM", "", "mtime ctime"},
		"not-trunc":   {"1000 truncate f 0 EACCES", "", "mtime ctime"},
		"not-utimes":  {"1000 utimes f 5.0 5.0 EPERM", "", "mtime ctime"},
		"not-touched": {"1000 utimes f now now EACCES", "", "mtime ctime"},
	} {
		lines := []string{"create f 644", "write f text", "link f other", "mark f", "tick", c.call}
		if c.changed != "" {
			lines = append(lines, "changed f "+c.changed)
		}
		if c.kept != "" {
			lines = append(lines, "kept f "+c.kept)
		}
		add(name, strings.Join(lines, "\n"))
	}
	add("omit-both", "create f 644\nutimes f 7.5 8.5\nutimes f - -\nstat f atime=7.000000005 mtime=8.000000005")
	add("only-one", "create f 644\nutimes f 7.1 8.1\nutimes f - 9.2\nstat f atime=7.000000001 mtime=9.000000002\nutimes f 6.3 -\nstat f atime=6.000000003 mtime=9.000000002")
	add("nanoseconds", "create f 644\nutimes f 0.1 0.999999999\nstat f atime=0.000000001 mtime=0.999999999")
	add("far-future", "create f 644\nutimes f 4000000000.0 9000000000.0\nstat f atime=4000000000.000000000 mtime=9000000000.000000000")
	add("owner-may-set", "create f 444\nchown f 1000 1000\n1000 utimes f 5.0 6.0\nstat f atime=5.000000000 mtime=6.000000000")
	add("writer-may-touch", "create f 666\n1000 utimes f now now\n1000 utimes f 5.0 6.0 EPERM\n1000 utimes f now - EPERM")
	add("reader-may-not", "create f 444\n1000 utimes f now now EACCES")
	return all
}
