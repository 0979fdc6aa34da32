//go:build linux

package main

// renameChecks are about moves, links and directories.
func renameChecks() (all []check) {
	for name, script := range map[string]string{
		"directory-over-empty":     "mkdir d 755\ncreate d/f 644\nmkdir e 700\nrename d e\nmissing d\nstat e/f type=file\nstat e mode=755",
		"directory-over-full":      "mkdir d 755\nmkdir e 755\ncreate e/f 644\nrename d e ENOTEMPTY|EEXIST\nstat e/f type=file",
		"directory-into-itself":    "mkdir d 755\nrename d d/e EINVAL\nmkdir d/x 755\nrename d d/x/e EINVAL\nstat d/x type=dir",
		"over-own-parent":          "mkdir d 755\nmkdir d/e 755\nrename d/e d ENOTEMPTY|EEXIST",
		"to-itself":                "create f 644\nrename f f\nstat f type=file",
		"missing":                  "rename none f ENOENT",
		"into-missing":             "create f 644\nrename f d/f ENOENT\nstat f type=file",
		"keeps-attributes":         "create f 640\nchown f 5 6\nwrite f text\nutimes f 7.0 8.0\nrename f g\nstat g mode=640 uid=5 gid=6 size=4 atime=7.000000000 mtime=8.000000000",
		"dangling-link":            "symlink none l\nrename l m\nreadlink m none",
		"over-link":                "create f 644\nsymlink g l\ncreate g 600\nrename f l\nlstat l type=file mode=644\nstat g mode=600",
		"case-of-letters":          "create f 644\ncreate F 600\nstat f mode=644\nstat F mode=600\nrename f F\nmissing f\nstat F mode=644",
		"parent-links":             "mkdir a 755\nmkdir b 755\nmkdir a/d 755\nstat a nlink=3\nstat b nlink=2\nrename a/d b/d\nstat a nlink=2\nstat b nlink=3\nstat b/d/.. same=b",
		"replaced-links":           "create f 644\nlink f g\ncreate h 644\nrename h g\nstat f nlink=1\nstat g nlink=1",
		"exchange-directories":     "mkdir a 755\nmkdir b 755\ncreate a/f 644\nmkdir b/d 755\nexchange a b\nstat b/f type=file\nstat a/d type=dir\nstat a nlink=3\nstat b nlink=2",
		"exchange-missing":         "create f 644\nexchange f none ENOENT\nstat f type=file",
		"exchange-across":          "mkdir a 755\nmkdir b 755\nmkdir a/d 755\ncreate b/f 644\nexchange a/d b/f\nstat a/d type=file\nstat b/f type=dir\nstat a nlink=2\nstat b nlink=3",
		"noreplace-missing-target": "create f 644\nnoreplace f g\nstat g type=file\nmissing f",
	} {
		all = append(all, check{name: "rename/" + name, script: script})
	}
	for name, script := range map[string]string{
		"mkdir-links":     "mkdir d 755\nstat d nlink=2\nmkdir d/a 755\nstat d nlink=3\nmkdir d/b 755\nstat d nlink=4\nrmdir d/a\nstat d nlink=3",
		"files-no-links":  "mkdir d 755\ncreate d/f 644\nsymlink x d/l\nstat d nlink=2",
		"rmdir-full":      "mkdir d 755\ncreate d/f 644\nrmdir d ENOTEMPTY|EEXIST\nunlink d/f\nrmdir d\nmissing d",
		"rmdir-link":      "mkdir d 755\nsymlink d l\nrmdir l ENOTDIR\nstat d type=dir",
		"rmdir-missing":   "rmdir none ENOENT",
		"mkdir-link":      "symlink none l\nmkdir l 755 EEXIST\nmissing none",
		"many-links":      "create f 644\n" + manyLinks() + "stat f nlink=31",
		"link-to-link":    "create f 644\nsymlink f l\nlink l m\nlstat m type=symlink nlink=2\nstat f nlink=1",
		"link-missing":    "link none f ENOENT",
		"link-content":    "create f 644\nwrite f one\nlink f g\nwrite g two\nread f two\nstat f size=3",
		"link-attributes": "create f 644\nlink f g\nchmod g 600\nchown g 5 6\nstat f mode=600 uid=5 gid=6",
		"symlink-size":    "symlink target l\nlstat l size=6 type=symlink\nreadlink l target",
		"symlink-owner":   "1000:2000 symlink target l\nlstat l uid=1000 gid=2000",
		"mkdir-deep":      "mkdir a 755\nmkdir a/b 755\nmkdir a/b/c 755\ncreate a/b/c/f 644\nrename a/b/c/f f\nrmdir a/b/c\nrmdir a/b\nrmdir a",
	} {
		all = append(all, check{name: "names/" + name, script: script})
	}
	return all
}

func manyLinks() (script string) {
	for i := range 30 {
		script += "link f l" + string(rune('0'+i/10)) + string(rune('0'+i%10)) + "\n"
	}
	return script
}
