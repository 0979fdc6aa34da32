package ext4

import (
	"fmt"
	"sort"
)

// The journal is that of jbd2, all of it big endian.
const (
	journalMagic = 0xC03B3998

	journalDescriptor = 1
	journalCommit     = 2
	journalSuper      = 4
	journalRevoke     = 5

	journalHeader = 12 // bytes: magic, kind, sequence

	journalRevokes  = 0x01 // incompatible features
	journal64Bit    = 0x02
	journalSumV2    = 0x08
	journalSumV3    = 0x10
	journalSumCRC32 = 4 // checksum type: CRC-32C
)

// Offsets in the journal's superblock.
const (
	jsBlockSize = 0x0C
	jsLength    = 0x10
	jsFirst     = 0x14
	jsSequence  = 0x18
	jsStart     = 0x1C
	jsError     = 0x20
	jsCompat    = 0x24
	jsIncompat  = 0x28
	jsUUID      = 0x30
	jsUsers     = 0x40
	jsSumType   = 0x50
	jsChecksum  = 0xFC

	journalSuperSize = 1024
)

// journalBlocks is how long a journal a file system of so many blocks gets.
func journalBlocks(blocks uint64) uint32 {
	switch {
	case blocks < 64<<20/BlockSize:
		return 4 << 20 / BlockSize // the least that jbd2 accepts
	case blocks < 256<<20/BlockSize:
		return 16 << 20 / BlockSize
	}
	return 64 << 20 / BlockSize
}

// freshJournal is the first block of an empty journal of so many blocks. The features
// are those that Linux would switch on at the first mount.
func freshJournal(length uint32, uuid [16]byte) []byte {
	p := make([]byte, BlockSize)
	be.PutUint32(p[0:], journalMagic)
	be.PutUint32(p[4:], journalSuper)
	be.PutUint32(p[jsBlockSize:], BlockSize)
	be.PutUint32(p[jsLength:], length)
	be.PutUint32(p[jsFirst:], 1)
	be.PutUint32(p[jsSequence:], 1)
	be.PutUint32(p[jsIncompat:], journalRevokes|journal64Bit|journalSumV3)
	copy(p[jsUUID:], uuid[:])
	be.PutUint32(p[jsUsers:], 1)
	p[jsSumType] = journalSumCRC32
	sealJournalSuper(p)
	return p
}

func journalSuperSum(p []byte) uint32 {
	sum := checksum(^uint32(0), p[:jsChecksum])
	sum = checksum(sum, []byte{0, 0, 0, 0})
	return checksum(sum, p[jsChecksum+4:journalSuperSize])
}

func sealJournalSuper(p []byte) { be.PutUint32(p[jsChecksum:], journalSuperSum(p)) }

const (
	// maxJournalBlocks bounds the journals that this package replays: 1 GiB in blocks of
	// 4096 bytes, the longest that mke2fs makes.
	maxJournalBlocks = 1 << 18
	journalKnown     = journalRevokes | journal64Bit | journalSumV2 | journalSumV3
)

// journal is the journal of an existing file system.
type journal struct {
	*volume
	where  extents
	block  []byte // the first block, which begins with the superblock
	length uint32 // blocks
	first  uint32 // where the log begins
	seed   uint32 // of checksums
	flags  uint32 // incompatible features
}

// openJournal reads and checks the journal's own superblock.
func openJournal(v *volume) (*journal, error) {
	corrupt := func(format string, args ...any) error {
		return fmt.Errorf("%w: journal: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	if n := v.super.u32(sbJournalInode); n != inodeJournal {
		return nil, fmt.Errorf("%w: journal in inode %d", ErrUnsupported, n)
	}
	table, _, offset, err := v.inode(inodeJournal)
	if err != nil {
		return nil, err
	}
	n := table[offset:][:v.geo.inodeSize]
	if le.Uint32(n[inFlags:])&inodeExtents == 0 {
		return nil, fmt.Errorf("%w: journal without extents", ErrUnsupported)
	}
	j := &journal{volume: v}
	seed := inodeSeed(v.geo.seed, inodeJournal, le.Uint32(n[inGeneration:]))
	if j.where, err = v.readExtents(n[inBlock:][:iblockSize], seed); err != nil {
		return nil, err
	}
	if j.block, err = j.readLog(0); err != nil {
		return nil, err
	}
	s := j.block
	if be.Uint32(s) != journalMagic || be.Uint32(s[4:]) != journalSuper {
		return nil, corrupt("no superblock of version 2")
	}
	j.length, j.first, j.flags = be.Uint32(s[jsLength:]), be.Uint32(s[jsFirst:]), be.Uint32(s[jsIncompat:])
	if be.Uint32(s[jsCompat:]) != 0 || j.flags&^journalKnown != 0 {
		return nil, fmt.Errorf("%w: journal features %#x and %#x", ErrUnsupported, be.Uint32(s[jsCompat:]), j.flags)
	}
	if j.sums() {
		if s[jsSumType] != journalSumCRC32 || be.Uint32(s[jsChecksum:]) != journalSuperSum(s) {
			return nil, corrupt("checksum of its superblock is wrong")
		}
		j.seed = checksum(^uint32(0), s[jsUUID:jsUUID+16])
	}
	if be.Uint32(s[jsBlockSize:]) != v.geo.blockSize {
		return nil, corrupt("blocks of %d bytes", be.Uint32(s[jsBlockSize:]))
	}
	if j.length > maxJournalBlocks {
		return nil, fmt.Errorf("%w: journal of %d blocks", ErrUnsupported, j.length)
	}
	if j.first == 0 || j.first >= j.length || uint64(j.length) > j.where.blocks() {
		return nil, corrupt("log from %d to %d in %d blocks", j.first, j.length, j.where.blocks())
	}
	if e := be.Uint32(s[jsError:]); e != 0 {
		return nil, fmt.Errorf("%w: its journal was aborted with error %d", ErrDirty, int32(e))
	}
	return j, nil
}

// sums reports whether blocks of the journal carry checksums.
func (j *journal) sums() bool { return j.flags&(journalSumV2|journalSumV3) != 0 }

// locate returns where block number of the journal lies.
func (j *journal) locate(number uint32) (uint64, error) {
	i := sort.Search(len(j.where), func(i int) bool { return j.where[i].logical > number }) - 1
	if i < 0 || number-j.where[i].logical >= j.where[i].length {
		return 0, fmt.Errorf("%w: the journal lacks its block %d", ErrCorrupt, number)
	}
	return j.where[i].start + uint64(number-j.where[i].logical), nil
}

func (j *journal) readLog(number uint32) ([]byte, error) {
	at, err := j.locate(number)
	if err != nil {
		return nil, err
	}
	return j.read(at, 1)
}

func (j *journal) writeLog(number uint32, p []byte) error {
	at, err := j.locate(number)
	if err != nil {
		return err
	}
	return j.write(at, p)
}

// after returns the block of the log that follows number; the log is a ring.
func (j *journal) after(number uint32) uint32 {
	if number+1 >= j.length {
		return j.first
	}
	return number + 1
}

// mark records that the log begins at block start, 0 if it is empty, with a transaction
// numbered sequence.
func (j *journal) mark(start, sequence uint32) error {
	be.PutUint32(j.block[jsStart:], start)
	be.PutUint32(j.block[jsSequence:], sequence)
	if j.sums() {
		sealJournalSuper(j.block)
	}
	return j.writeLog(0, j.block)
}

// tagSize is the size of one tag of a descriptor block in bytes.
func (j *journal) tagSize() int {
	switch size := 8; {
	case j.flags&journalSumV3 != 0:
		return 16
	case j.flags&journal64Bit != 0:
		size += 4
		fallthrough
	default:
		if j.flags&journalSumV2 != 0 {
			size += 2
		}
		return size
	}
}

// tailSum is the checksum that a descriptor or revoke block ends with.
func (j *journal) tailSum(p []byte) uint32 {
	end := len(p) - 4
	return checksum(checksum(j.seed, p[:end]), []byte{0, 0, 0, 0})
}

// blockSum is the checksum of a block of data in transaction sequence.
func (j *journal) blockSum(p []byte, sequence uint32) uint32 {
	var number [4]byte
	be.PutUint32(number[:], sequence)
	return checksum(checksum(j.seed, number[:]), p)
}

const commitSum = 0x10 // offset of the checksum in a commit block

func (j *journal) commitSum(p []byte) uint32 {
	sum := checksum(j.seed, p[:commitSum])
	sum = checksum(sum, []byte{0, 0, 0, 0})
	return checksum(sum, p[commitSum+4:])
}

func journalHead(p []byte, kind, sequence uint32) {
	be.PutUint32(p[0:], journalMagic)
	be.PutUint32(p[4:], kind)
	be.PutUint32(p[8:], sequence)
}
