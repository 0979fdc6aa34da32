package tree

import "strings"

// EntryType is the type byte that directory entries of ext4 and EROFS have for an inode
// of that mode (linux/fs_types.h, FT_*); 0 is unknown.
func EntryType(mode uint32) uint8 {
	switch mode & TypeMask {
	case TypeRegular:
		return 1
	case TypeDir:
		return 2
	case TypeChar:
		return 3
	case TypeBlock:
		return 4
	case TypeFIFO:
		return 5
	case TypeSocket:
		return 6
	case TypeSymlink:
		return 7
	}
	return 0
}

// xattrPrefixes are the beginnings of attributes' names that have a number in ext4 and in
// EROFS (linux/fs/ext4/xattr.h, linux/fs/erofs/erofs_fs.h).
var xattrPrefixes = [...]struct {
	index  uint8
	prefix string
	whole  bool // the prefix is the complete name
}{
	{1, "user.", false},
	{2, "system.posix_acl_access", true},
	{3, "system.posix_acl_default", true},
	{4, "trusted.", false},
	{6, "security.", false},
}

// SplitXattr splits an attribute's name into the number that its prefix has in ext4 and in
// EROFS, and the rest, which is empty for the POSIX ACLs. ok is false for names that Linux
// lets neither of them store.
func SplitXattr(name string) (index uint8, suffix string, ok bool) {
	for _, p := range xattrPrefixes {
		if p.whole && name == p.prefix {
			return p.index, "", true
		}
		if suffix, found := strings.CutPrefix(name, p.prefix); !p.whole && found && suffix != "" {
			return p.index, suffix, true
		}
	}
	return 0, "", false
}

// XattrPrefix is the beginning of attributes' names that has the number index; ok is false
// for a number that is nobody's.
func XattrPrefix(index uint8) (prefix string, ok bool) {
	for _, p := range xattrPrefixes {
		if p.index == index {
			return p.prefix, true
		}
	}
	return "", false
}
