package ext4

const (
	direntHead    = 8    // bytes of a directory entry before its name
	direntTail    = 12   // bytes of the pseudo entry at a block's end that holds a checksum
	direntTailTyp = 0xDE // its file type
	leafSize      = BlockSize - direntTail
	dotsSize      = 24 // bytes of "." and ".."
)

// dirent is one name in a directory.
type dirent struct {
	name   string
	number uint32
	kind   uint8
}

func (d *dirent) size() int { return direntSize(d.name) }

func direntSize(name string) int { return alignUp(direntHead+len(name), 4) }

// directory encodes the blocks of one directory.
type directory struct {
	self, parent uint32
	seed         uint32 // of the inode's checksums
	hashSeed     *[4]uint32
}

// encode returns the directory's content. One that needs more than a block gets an
// index by hashes: Linux adds none to a directory that already has several blocks, and
// would search them all for every name.
func (d *directory) encode(entries []dirent) (content []byte, indexed bool, err error) {
	size := dotsSize
	for i := range entries {
		size += entries[i].size()
	}
	if size > leafSize {
		content, err = d.index(entries)
		return content, true, err
	}
	block := make([]byte, BlockSize)
	at := d.dots(block)
	d.leaf(block, at, entries)
	return block, false, nil
}

// dots writes "." and ".." and returns how many bytes they take.
func (d *directory) dots(block []byte) int {
	putDirent(block, &dirent{".", d.self, 2}, 12)
	putDirent(block[12:], &dirent{"..", d.parent, 2}, 12)
	return dotsSize
}

func putDirent(p []byte, e *dirent, size int) {
	le.PutUint32(p, e.number)
	le.PutUint16(p[4:], uint16(size))
	p[6], p[7] = uint8(len(e.name)), e.kind
	copy(p[direntHead:], e.name)
}

// leaf writes entries from at on, stretches the last of the block over the room left
// and adds the checksum.
func (d *directory) leaf(block []byte, at int, entries []dirent) {
	last := 12 // ".."
	for i := range entries {
		e := &entries[i]
		putDirent(block[at:], e, e.size())
		last = at
		at += e.size()
	}
	le.PutUint16(block[last+4:], uint16(leafSize-last))
	tail := block[leafSize:]
	le.PutUint16(tail[4:], direntTail)
	tail[7] = direntTailTyp
	le.PutUint32(tail[8:], checksum(d.seed, block[:leafSize]))
}
