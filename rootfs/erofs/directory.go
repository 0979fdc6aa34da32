package erofs

import (
	"slices"
)

// A directory is a sequence of blocks; each holds an array of entries, then their
// names. All entries, "." and ".." among them, are in byte order over the whole
// directory, because the kernel searches by bisection.

// dirNames adds "." and ".." to the sorted names of a directory, keeping the order.
func dirNames(names []string) []string {
	all := make([]string, 0, len(names)+2)
	all = append(all, ".", "..")
	all = append(all, names...)
	// Only names that begin with a byte below '.' move.
	slices.Sort(all)
	return all
}

// dirSize returns the length in bytes of a directory with these names.
func dirSize(names []string) uint64 {
	var full, used uint64
	for _, name := range names {
		n := uint64(direntSize + len(name))
		if used+n > BlockSize {
			full += BlockSize
			used = 0
		}
		used += n
	}
	return full + used
}

type dirent struct {
	nid      uint64
	fileType uint8
}

// encodeDir returns the directory content; entry gives what a name stands for.
func encodeDir(names []string, size uint64, entry func(name string) dirent) []byte {
	p := make([]byte, 0, size)
	for len(names) > 0 {
		n, used := 0, 0
		for n < len(names) && used+direntSize+len(names[n]) <= BlockSize {
			used += direntSize + len(names[n])
			n++
		}
		p = appendDirBlock(p, names[:n], entry)
		names = names[n:]
		if len(names) > 0 {
			p = append(p, make([]byte, BlockSize-used)...)
		}
	}
	return p
}

func appendDirBlock(p []byte, names []string, entry func(name string) dirent) []byte {
	offset := len(names) * direntSize
	for _, name := range names {
		e := entry(name)
		p = le.AppendUint64(p, e.nid)
		p = le.AppendUint16(p, uint16(offset))
		p = append(p, e.fileType, 0)
		offset += len(name)
	}
	for _, name := range names {
		p = append(p, name...)
	}
	return p
}
