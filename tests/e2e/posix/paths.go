//go:build linux

package main

import (
	"fmt"
	"strings"
)

// pathCalls are calls that take a path, written with % in its place, and what makes them
// succeed, if anything must be there, with P in its place.
var pathCalls = []struct{ name, call, prepare string }{
	{"chmod", "chmod % 600", "create P 644"},
	{"chown", "chown % 5 5", "create P 644"},
	{"link-from", "link % new", "create P 644"},
	{"link-to", "link old %", ""},
	{"lstat", "lstat %", "create P 644"},
	{"mkdir", "mkdir % 755", ""},
	{"mkfifo", "mkfifo % 644", ""},
	{"mknod", "mknod % file 644 0 0", ""},
	{"open", "open % r", "create P 644"},
	{"create", "open % rw,creat", ""},
	{"readlink", "readlink % x", "symlink x P"},
	{"rename-from", "rename % new", "create P 644"},
	{"rename-to", "rename old %", ""},
	{"rmdir", "rmdir %", "mkdir P 755"},
	{"stat", "stat %", "create P 644"},
	{"symlink", "symlink x %", ""},
	{"truncate", "truncate % 5", "create P 644"},
	{"unlink", "unlink %", "create P 644"},
	{"utimensat", "utimes % 5.0 5.0", "create P 644"},
}

// pathChecks are about what every call does with paths that lead nowhere, or are too long.
func pathChecks() (all []check) {
	for _, c := range pathCalls {
		at := func(path, errno string) string { return strings.Replace(c.call, "%", path, 1) + " " + errno }
		there := func(path string) string { return strings.Replace(c.prepare, "P", path, 1) }
		add := func(what, format string, args ...any) {
			all = append(all, check{name: c.name + "/" + what, script: "create old 644\n" + fmt.Sprintf(format, args...)})
		}
		add("file-in-the-way", "create f 644\n%s", at("f/x", "ENOTDIR"))
		add("nothing-in-the-way", "%s", at("none/x", "ENOENT"))
		add("longest-name", "%s\n%s", there("{255}"), at("{255}", ""))
		add("name-too-long", "%s", at("{256}", "ENAMETOOLONG"))
		add("path-too-long", "%s", at("{PATH}", "ENAMETOOLONG"))
		add("loop", "symlink b a\nsymlink a b\n%s", at("a/x", "ELOOP"))
		// Another's directory that may be read but not searched.
		add("search-permission", "mkdir d 755\nchown d 1000 1000\n%s\nchmod d 644\n1000 %s\nchmod d 755", there("d/x"), at("d/x", "EACCES"))
		if c.prepare == "" {
			add("no-write-permission", "create d 600\nunlink d\nmkdir d 755\nchmod old 666\nchown old 1000 1000\n1000 %s", at("d/x", "EACCES"))
		} else {
			add("missing", "%s", at("none", "ENOENT"))
		}
	}
	// Slashes at the end want a directory.
	for name, script := range map[string]string{
		"stat-file":         "create f 644\nstat f/ ENOTDIR",
		"open-file":         "create f 644\nopen f/ r ENOTDIR",
		"create":            "open f/ rw,creat EISDIR",
		"unlink-file":       "create f 644\nunlink f/ ENOTDIR",
		"unlink-directory":  "mkdir d 755\nunlink d/ EISDIR|EPERM|ENOTDIR",
		"mkdir":             "mkdir d/ 755\nstat d/ type=dir",
		"rmdir":             "mkdir d 755\nrmdir d/",
		"rename-file":       "create f 644\nrename f g/ ENOTDIR|ENOENT",
		"rename-directory":  "mkdir d 755\nrename d/ e/\nstat e type=dir",
		"link-to-directory": "mkdir d 755\nsymlink d l\nlstat l/ type=dir\nrmdir l/ ENOTDIR",
		"link-to-file":      "create f 644\nsymlink f l\nstat l/ ENOTDIR",
	} {
		all = append(all, check{name: "trailing-slash/" + name, script: script})
	}
	for name, script := range map[string]string{
		"empty":            "stat '' ENOENT",
		"longest-target":   "symlink {4095} l\nreadlink l {4095}\nlstat l size=4095",
		"target-too-long":  "symlink {4096} l ENAMETOOLONG",
		"link-chain":       "create f 644\nsymlink f a\nsymlink a b\nsymlink b c\nstat c type=file same=f",
		"dot-dot":          "mkdir d 755\nmkdir d/e 755\nstat d/e/../../d/e/. same=d/e",
		"rmdir-dot":        "mkdir d 755\nrmdir d/. EINVAL",
		"rmdir-dot-dot":    "mkdir d 755\nmkdir d/e 755\nrmdir d/e/.. ENOTEMPTY|EINVAL|EEXIST",
		"rename-dot":       "mkdir d 755\nrename d/. e EBUSY|EINVAL",
		"rename-dot-dot":   "mkdir d 755\nmkdir d/e 755\nrename d/e/.. f EBUSY|EINVAL",
		"mkdir-dot":        "mkdir d 755\nmkdir d/. 755 EEXIST",
		"unlink-dot":       "mkdir d 755\nunlink d/. EISDIR|EPERM|EINVAL",
		"dangling-stat":    "symlink none l\nstat l ENOENT\nlstat l type=symlink",
		"relative-target":  "mkdir d 755\ncreate d/f 644\nsymlink f d/l\nstat d/l same=d/f",
		"through-file":     "create f 644\nsymlink f l\nstat l/x ENOTDIR",
		"loop-lstat":       "symlink l l\nlstat l type=symlink\nstat l ELOOP\nopen l r ELOOP\nchmod l 600 ELOOP\ntruncate l 0 ELOOP",
		"loop-unlink":      "symlink l l\nunlink l\nmissing l",
		"empty-link":       "symlink '' l ENOENT",
		"names-of-a-space": "create .x 644\ncreate ..x 644\ncreate ... 644\nstat ... type=file",
	} {
		all = append(all, check{name: "path/" + name, script: strings.ReplaceAll(script, "''", "{0}")})
	}
	return all
}
