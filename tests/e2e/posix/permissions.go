//go:build linux

package main

import (
	"fmt"
)

// permissionChecks are about who may do what.
func permissionChecks() (all []check) {
	add := func(name, script string) { all = append(all, check{name: "permissions/" + name, script: script}) }
	// The first class that fits decides, also if another would give more.
	for class, c := range map[string]struct {
		who   string
		shift uint
	}{"owner": {"1000:9", 6}, "group": {"9:2000", 3}, "other-group": {"9:9,2000", 3}, "others": {"9:9", 0}} {
		for _, kind := range []string{"file", "dir"} {
			script := fmt.Sprintf("make n %s\nchown n 1000 2000\n", kind)
			for bits := range 8 {
				script += fmt.Sprintf("chmod n %o\n", 0o777&^(7<<c.shift)|bits<<c.shift)
				for i, right := range []string{"x", "w", "r"} {
					verdict := "EACCES"
					if bits>>i&1 != 0 {
						verdict = ""
					}
					script += fmt.Sprintf("%s access n %s %s\n", c.who, right, verdict)
					if kind == "file" && right != "x" {
						script += fmt.Sprintf("%s open n %s %s\n", c.who, right, verdict)
					}
				}
			}
			add(class+"-"+kind, script)
		}
	}
	for umask, want := range map[string]string{"22": "644", "77": "600", "0": "666", "777": "0", "27": "640"} {
		all = append(all, check{name: "umask/" + umask, script: "umask " + umask + "\ncreate f 666\numask 0\nstat f mode=" + want})
	}
	add("umask-mkdir", "umask 27\nmkdir d 1777\numask 0\nstat d mode=1750")
	add("umask-mkfifo", "umask 27\nmkfifo f 666\nmknod n char 666 1 3\numask 0\nstat f mode=640\nstat n mode=640")
	add("umask-open", "umask 77\nopen f rw,creat\numask 0\nstat f mode=600")
	add("root-reads-all", "create f 0\nchown f 1000 1000\nopen f rw\naccess f rw\naccess f x EACCES")
	add("root-searches-all", "mkdir d 0\ncreate d/f 644\nstat d/f type=file")
	add("chmod-foreign", "create f 644\n1000 chmod f 666 EPERM\nstat f mode=644")
	add("chmod-own", "create f 644\nchown f 1000 1000\n1000 chmod f 600\nstat f mode=600")
	add("chmod-sgid-foreign-group", "create f 755\nchown f 1000 2000\n1000:1000 chmod f 2755\nstat f mode=755")
	add("chmod-sgid-own-group", "create f 755\nchown f 1000 2000\n1000:1000,2000 chmod f 2755\nstat f mode=2755")
	add("chmod-sgid-directory", "mkdir d 755\nchown d 1000 2000\n1000:1000 chmod d 2755\nstat d mode=755")
	add("chmod-sticky-file", "create f 644\nchown f 1000 1000\n1000 chmod f 1644\nstat f mode=1644")
	add("chown-give-away", "create f 644\nchown f 1000 1000\n1000 chown f 1001 - EPERM\nstat f uid=1000")
	add("chown-foreign", "create f 644\n1000 chown f 1000 - EPERM\n1000 chown f - 1000 EPERM\nstat f uid=0 gid=0")
	add("chown-own-group", "create f 644\nchown f 1000 1000\n1000:1000,2000 chown f - 2000\nstat f uid=1000 gid=2000")
	add("chown-no-change", "create f 644\nchown f 1000 2000\n1000:1000,2000 chown f 1000 2000\nstat f uid=1000 gid=2000")
	add("chown-foreign-group", "create f 644\nchown f 1000 1000\n1000:1000 chown f - 2000 EPERM\nstat f gid=1000")
	add("chown-clears-suid", "create f 755\nchown f 1000 1000\nchmod f 6755\n1000:1000,2000 chown f - 2000\nstat f mode=755")
	add("chown-by-root-clears-suid", "create f 755\nchmod f 6755\nchown f 5 5\nstat f mode=755")
	add("chown-keeps-lock-bit", "create f 644\nchmod f 6644\nchown f 5 5\nstat f mode=2644")
	add("chown-keeps-directory-bits", "mkdir d 755\nchmod d 7777\nchown d 5 5\nstat d mode=7777")
	add("write-clears-suid", "create f 777\nchmod f 6777\n1000 write f x\nstat f mode=777")
	add("write-by-root-keeps-suid", "create f 777\nchmod f 6777\nwrite f x\nstat f mode=6777")
	add("truncate-clears-suid", "create f 777\nwrite f text\nchmod f 6777\n1000 truncate f 1\nstat f mode=777")
	add("open-trunc-clears-suid", "create f 777\nwrite f text\nchmod f 6777\n1000 open f w,trunc\nstat f mode=777 size=0")
	add("create-with-suid", "create f 6755\nstat f mode=6755\n1000 create g 4755\nstat g mode=4755")
	add("sgid-directory", "mkdir d 777\nchown d - 3000\nchmod d 2777\n1000 create d/f 644\nstat d/f uid=1000 gid=3000 mode=644\n1000 mkdir d/e 755\nstat d/e gid=3000 mode=2755\n1000 symlink x d/l\nlstat d/l gid=3000\n1000 mkfifo d/p 600\nstat d/p gid=3000")
	add("sgid-file-in-directory", "mkdir d 777\nchown d - 3000\nchmod d 2777\n1000 create d/f 2755\nstat d/f gid=3000 mode=755")
	add("create-in-foreign-directory", "mkdir d 755\n1000 create d/f 644 EACCES\n1000 mkdir d/e 755 EACCES\n1000 symlink x d/l EACCES\n1000 mkfifo d/p 644 EACCES")
	add("link-into-foreign-directory", "mkdir d 755\ncreate f 666\nchown f 1000 1000\n1000 link f d/f EACCES")
	add("unlink-needs-directory", "mkdir d 755\ncreate d/f 666\nchown d/f 1000 1000\n1000 unlink d/f EACCES\n1000 rename d/f d/g EACCES")
	add("unlink-needs-no-file", "mkdir d 777\ncreate d/f 0\n1000 unlink d/f\nmissing d/f")
	add("truncate-needs-write", "create f 444\nchown f 1000 1000\n1000 truncate f 0 EACCES")
	add("list-needs-read", "mkdir d 711\n1000 open d r,dir EACCES\ncreate d/f 644\n1000 open d/f r")
	add("readlink-needs-nothing", "symlink x l\n1000 readlink l x")
	// In a sticky directory only owners remove, of the file or of the directory.
	for _, kind := range []string{"file", "dir", "symlink", "fifo"} {
		remove := "unlink"
		if kind == "dir" {
			remove = "rmdir"
		}
		add("sticky-"+kind, fmt.Sprintf("mkdir d 1777\n1000 make d/n %s\n1001 %s d/n EPERM|EACCES\n1001 rename d/n d/m EPERM|EACCES\n1001 rename d/n m EPERM|EACCES\n1000 rename d/n d/m\n1000 %s d/m\nmissing d/m", kind, remove, remove))
		add("sticky-own-directory-"+kind, fmt.Sprintf("mkdir d 1777\nchown d 1001 1001\n1000 make d/n %s\n1001 rename d/n d/m\n1001 %s d/m\nmissing d/m", kind, remove))
	}
	add("sticky-replace", "mkdir d 1777\n1000 create d/f 644\n1001 create d/g 644\n1001 rename d/g d/f EPERM|EACCES\n1000 create d/h 644\n1000 rename d/h d/f")
	add("rename-foreign-directory", "mkdir a 777\nmkdir b 777\nmkdir a/d 755\n1000 rename a/d b/d EACCES|EPERM\n1000 rename a/d a/e\nstat a/e type=dir")
	add("rename-read-only-directory", "mkdir a 777\nmkdir b 777\n1000 mkdir a/d 555\n1000 rename a/d b/d EACCES\n1000 rename a/d a/e")
	return all
}
