package erofs

import (
	"slices"
)

// A directory is a sequence of blocks; each holds an array of entries, then their
// names. All entries, "." and ".." among them, are in byte order over the whole
// directory, because the kernel searches by bisection.

// dirNames adds "." and ".." to the names of a directory and puts all in order, each
// once.
func dirNames(names []string) []string {
	all := make([]string, 0, len(names)+2)
	all = append(all, ".", "..")
	all = append(all, names...)
	slices.Sort(all)
	return slices.Compact(all)
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

// appendDir appends the directory content; entry gives what a name stands for by its
// position.
func appendDir(p []byte, names []string, entry func(i int) dirent) []byte {
	for done := 0; done < len(names); {
		n, used := done, 0
		for n < len(names) && used+direntSize+len(names[n]) <= BlockSize {
			used += direntSize + len(names[n])
			n++
		}
		first := done
		p = appendDirBlock(p, names[first:n], func(i int) dirent { return entry(first + i) })
		done = n
		if done < len(names) {
			p = append(p, zeroBlock[:BlockSize-used]...)
		}
	}
	return p
}

var zeroBlock [BlockSize]byte

func appendDirBlock(p []byte, names []string, entry func(i int) dirent) []byte {
	offset := len(names) * direntSize
	for i, name := range names {
		e := entry(i)
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
