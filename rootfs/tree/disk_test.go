package tree

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestEntryType holds the type bytes against Linux' include/linux/fs_types.h.
func TestEntryType(t *testing.T) {
	t.Parallel()
	for mode, want := range map[uint32]uint8{
		0o100644: 1, 0o040755: 2, 0o020666: 3, 0o060660: 4, 0o010600: 5, 0o140600: 6, 0o120777: 7, 0: 0, 0o170000: 0,
	} {
		assert.Equal(t, want, EntryType(mode), "%o", mode)
	}
}

func TestSplitXattr(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		index  uint8
		suffix string
	}{
		"user.note":                {1, "note"},
		"user.a.b":                 {1, "a.b"},
		"system.posix_acl_access":  {2, ""},
		"system.posix_acl_default": {3, ""},
		"trusted.overlay.opaque":   {4, "overlay.opaque"},
		"security.capability":      {6, "capability"},
	} {
		index, suffix, ok := SplitXattr(name)
		assert.True(t, ok, name)
		assert.Equal(t, want.index, index, name)
		assert.Equal(t, want.suffix, suffix, name)
		prefix, ok := XattrPrefix(index)
		assert.True(t, ok, name)
		assert.Equal(t, name, prefix+suffix)
	}
	for _, name := range []string{"", "user", "user.", "trusted.", "system.posix_acl_access.x", "system.nfs4_acl", "btrfs.compression", "User.a"} {
		_, _, ok := SplitXattr(name)
		assert.False(t, ok, name)
	}
	for _, index := range []uint8{0, 5, 7, 255} {
		_, ok := XattrPrefix(index)
		assert.False(t, ok, "%d", index)
	}
}
