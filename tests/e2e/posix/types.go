//go:build linux

package main

import "strings"

var kinds = []string{"file", "dir", "symlink", "fifo", "char", "block", "socket"}

// typeChecks are about what can be done with files of every type.
func typeChecks() (all []check) {
	add := func(name, kind, script string) {
		all = append(all, check{name: name + "/" + kind, script: strings.ReplaceAll(script, "KIND", kind)})
	}
	for _, kind := range kinds {
		add("make", kind, "make n KIND\nlstat n type=KIND uid=0 gid=0")
		add("make-as-user", kind, map[bool]string{true: "1000:2000 make n KIND EPERM\nmissing n", false: "1000:2000 make n KIND\nlstat n type=KIND uid=1000 gid=2000"}[kind == "char" || kind == "block"])
		add("lchown", kind, "make n KIND\nlchown n 7 8\nlstat n type=KIND uid=7 gid=8\nlchown n - 9\nlstat n uid=7 gid=9\nlchown n 10 -\nlstat n uid=10 gid=9")
		add("rename", kind, "make n KIND\nmark n\nrename n m\nmissing n\nlstat m type=KIND nlink="+links(kind))
		add("create-exists", kind, "make n KIND\ncreate n 644 EEXIST")
		add("mkdir-exists", kind, "make n KIND\nmkdir n 755 EEXIST\nlstat n type=KIND")
		add("mkfifo-exists", kind, "make n KIND\nmkfifo n 644 EEXIST\nlstat n type=KIND")
		add("mknod-exists", kind, "make n KIND\nmknod n char 644 1 3 EEXIST\nlstat n type=KIND")
		add("symlink-exists", kind, "make n KIND\nsymlink x n EEXIST\nlstat n type=KIND")
		add("link-exists", kind, "create f 644\nmake n KIND\nlink f n EEXIST\nstat f nlink=1\nlstat n type=KIND")
		add("noreplace", kind, "create f 644\nmake n KIND\nnoreplace f n EEXIST\nlstat n type=KIND\nnoreplace f g\nstat g type=file")
		add("exchange", kind, "create f 644\nmake n KIND\nexchange f n\nlstat f type=KIND\nlstat n type=file")
		if kind == "dir" {
			continue
		}
		add("link", kind, "make n KIND\nlink n m\nlstat n type=KIND nlink=2\nlstat m type=KIND nlink=2 same=n\nunlink n\nlstat m type=KIND nlink=1\nunlink m\nmissing m")
		add("unlink", kind, "make n KIND\nunlink n\nmissing n")
		add("rmdir", kind, "make n KIND\nrmdir n ENOTDIR\nlstat n type=KIND")
		add("replace", kind, "make n KIND\ncreate f 644\nrename n f\nmissing n\nlstat f type=KIND\ncreate g 600\nrename g f\nlstat f type=file mode=600")
		add("replace-by-directory", kind, "make n KIND\nmkdir d 755\nrename d n ENOTDIR\nlstat n type=KIND\nstat d type=dir")
		add("replace-directory", kind, "make n KIND\nmkdir d 755\nrename n d EISDIR|ENOTEMPTY|EEXIST\nlstat n type=KIND\nstat d type=dir")
		add("rename-to-own-link", kind, "make n KIND\nlink n m\nrename n m\nlstat n nlink=2 same=m")
		if kind == "symlink" {
			continue
		}
		add("chmod", kind, "make n KIND\nchmod n 111\nstat n type=KIND mode=111\nchmod n 4777\nstat n mode=4777")
		add("chmod-through-link", kind, "make n KIND\nsymlink n l\nchmod l 640\nstat n mode=640\nlstat l type=symlink")
		add("chown-through-link", kind, "make n KIND\nsymlink n l\nchown l 7 8\nstat n uid=7 gid=8\nlstat l uid=0 gid=0\nlchown l 9 10\nlstat l uid=9 gid=10\nstat n uid=7 gid=8")
		add("utimes", kind, "make n KIND\nutimes n 1000000000.123456789 1234567890.987654321\nstat n atime=1000000000.123456789 mtime=1234567890.987654321")
	}
	add("chmod", "dir", "mkdir n 755\nchmod n 111\nstat n mode=111\nchmod n 7777\nstat n mode=7777")
	add("utimes", "dir", "mkdir n 755\nutimes n 1000000000.123456789 1234567890.987654321\nstat n atime=1000000000.123456789 mtime=1234567890.987654321")
	add("lutimes", "symlink", "symlink x n\nlutimes n 1000000000.5 1234567890.6\nlstat n mtime=1234567890.000000006\nutimes n 1.0 1.0 ENOENT")
	add("unlink", "dir", "mkdir n 755\nunlink n EISDIR|EPERM\nstat n type=dir")
	add("link", "dir", "mkdir n 755\nlink n m EPERM\nmissing m")
	add("devices", "char", "mknod n char 640 259 65536\nlstat n type=char mode=640 dev=259:65536")
	add("devices", "block", "mknod n block 640 7 300\nlstat n type=block mode=640 dev=7:300")
	add("mknod", "file", "mknod n file 640 0 0\nlstat n type=file mode=640 size=0")
	add("truncate", "dir", "mkdir n 755\ntruncate n 0 EISDIR")
	add("truncate", "fifo", "mkfifo n 644\ntruncate n 0 EINVAL")
	add("readlink", "file", "create n 644\nreadlink n x EINVAL")
	add("readlink", "dir", "mkdir n 755\nreadlink n x EINVAL")
	add("open-for-writing", "dir", "mkdir n 755\nopen n w EISDIR\nopen n rw EISDIR\nopen n r\nopen n r,trunc EISDIR|EINVAL")
	add("open", "socket", "make n socket\nopen n r ENXIO")
	add("open-without-reader", "fifo", "mkfifo n 644\nopen n w,nonblock ENXIO\nopen n r,nonblock\nopen n rw")
	add("open", "char", "mknod n char 666 1 3\nwrite n x\nopen n rw")
	return all
}

func links(kind string) string {
	if kind == "dir" {
		return "2"
	}
	return "1"
}
