package patch

import (
	"fmt"
	"sort"

	"github.com/gomsb/gomsb/rootfs/erofs"
	"github.com/gomsb/gomsb/rootfs/tree"
)

// Lower is the file system that patches change.
type Lower interface {
	// Lookup returns the file that the names lead to from the root, nil if there is none.
	// It follows no symbolic link; what is below something that is no directory is not
	// there.
	Lookup(parts []string) (*tree.Inode, error)
}

// Empty is a Lower without any file but its root.
var Empty Lower = empty{}

type empty struct{}

func (empty) Lookup(parts []string) (*tree.Inode, error) {
	if len(parts) == 0 {
		return tree.NewDir(0o755), nil
	}
	return nil, nil
}

// maxEntries bounds the directories of an image in names.
const maxEntries = 1 << 20

// Image is the Lower of an EROFS image, or of the stitched disk that one begins. The
// content of its files can be read as long as the reader's own reader can.
func Image(r *erofs.Reader) Lower { return &image{reader: r, dirs: map[uint64][]erofs.Entry{}} }

type image struct {
	reader *erofs.Reader
	dirs   map[uint64][]erofs.Entry // that were read, by their number
}

func (m *image) Lookup(parts []string) (*tree.Inode, error) {
	f, err := m.reader.Root()
	for _, name := range parts {
		if err != nil || !f.Inode.IsDir() {
			return nil, err
		}
		entries, known := m.dirs[f.NID]
		if !known {
			if entries, err = f.ReadDir(maxEntries); err != nil {
				return nil, fmt.Errorf("image: %w", err)
			}
			m.dirs[f.NID] = entries
		}
		i := sort.Search(len(entries), func(i int) bool { return entries[i].Name >= name })
		if i == len(entries) || entries[i].Name != name {
			return nil, nil
		}
		f, err = m.reader.File(entries[i].NID)
	}
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return &f.Inode, nil
}
