package ext4

import "fmt"

// change is a block to be written as part of a transaction.
type change struct {
	target uint64
	data   []byte
}

// commit writes changes as one transaction into the empty journal and marks the file
// system as one that has to recover: from then on they happen, all of them, whatever
// else happens. They must include the primary superblock, marked likewise.
func (j *journal) commit(changes []change) error {
	sequence, at := be.Uint32(j.block[jsSequence:]), j.first
	size := int(j.geo.blockSize)
	perBlock := (size - journalHeader - 16 - 4) / j.tagSize() // 16: one UUID; 4: checksum
	need := uint64(len(changes)) + divUp(uint64(len(changes)), uint64(perBlock)) + 1
	if need > uint64(j.length-j.first) {
		return fmt.Errorf("%w: journal of %d blocks, %d are needed", ErrUnsupported, j.length, need)
	}
	for len(changes) > 0 {
		part := changes[:min(perBlock, len(changes))]
		changes = changes[len(part):]
		head, tag := make([]byte, size), journalHeader
		journalHead(head, journalDescriptor, sequence)
		data := at + 1
		for i := range part {
			block, escaped := part[i].data, false
			if be.Uint32(block) == journalMagic {
				block, escaped = append([]byte{0, 0, 0, 0}, block[4:]...), true
			}
			if err := j.writeLog(data, block); err != nil {
				return err
			}
			data++
			u := update{target: part[i].target, sum: j.blockSum(block, sequence), escaped: escaped}
			tag = j.putTag(head, tag, &u, i == 0, i == len(part)-1)
		}
		if j.sums() {
			be.PutUint32(head[size-4:], j.tailSum(head))
		}
		if err := j.writeLog(at, head); err != nil {
			return err
		}
		at = data
	}
	end := make([]byte, size)
	journalHead(end, journalCommit, sequence)
	if j.sums() {
		be.PutUint32(end[commitSum:], j.commitSum(end))
	}
	if err := j.writeLog(at, end); err != nil {
		return err
	}
	if err := j.Sync(); err != nil {
		return err
	}
	if err := j.mark(j.first, sequence); err != nil {
		return err
	}
	if err := j.Sync(); err != nil {
		return err
	}
	j.super.put32(sbIncompat, j.super.u32(sbIncompat)|incompatRecover)
	if err := j.writeSuper(); err != nil {
		return err
	}
	return j.Sync()
}

// putTag encodes a tag at offset at of a descriptor block and returns where the next
// one goes. The first of a block is followed by the journal's UUID.
func (j *journal) putTag(p []byte, at int, u *update, first, last bool) int {
	t, flags := p[at:], uint32(0)
	if u.escaped {
		flags |= tagEscaped
	}
	if !first {
		flags |= tagSameUUID
	}
	if last {
		flags |= tagLast
	}
	be.PutUint32(t, uint32(u.target))
	if j.flags&journalSumV3 != 0 {
		be.PutUint32(t[4:], flags)
		be.PutUint32(t[12:], u.sum)
	} else {
		if j.sums() {
			be.PutUint16(t[4:], uint16(u.sum))
		}
		be.PutUint16(t[6:], uint16(flags))
	}
	if j.flags&journal64Bit != 0 {
		be.PutUint32(t[8:], uint32(u.target>>32))
	}
	at += j.tagSize()
	if first {
		at += copy(p[at:], j.block[jsUUID:jsUUID+16])
	}
	return at
}
