package ext4

import "fmt"

// Flags of a tag in a descriptor block.
const (
	tagEscaped  = 0x1 // the block began with the magic number of the journal
	tagSameUUID = 0x2 // no UUID follows the tag
	tagLast     = 0x8
)

// update is one block that a transaction changes.
type update struct {
	target   uint64 // block of the file system
	from     uint32 // block of the journal with the new content
	sequence uint32
	sum      uint32
	escaped  bool
}

// revocation is a block of the journal that lists blocks which no earlier transaction,
// nor its own, may change any more.
type revocation struct {
	from, sequence uint32
}

// log is what the committed transactions of a journal hold.
type log struct {
	updates  []update
	revoked  []revocation
	sequence uint32 // of the transaction after the last
}

// recover completes the committed transactions and marks journal and file system clean.
// It checks everything before it writes anything: on errors that wrap ErrCorrupt,
// ErrUnsupported or ErrDirty the image is untouched.
func (j *journal) recover() error {
	if j.super.u32(sbState)&stateError != 0 {
		return ErrDirty
	}
	l, err := j.scan()
	if err != nil {
		return err
	}
	final, err := j.final(l)
	if err != nil {
		return err
	}
	for i := range final {
		if err := j.verify(&final[i]); err != nil {
			return err
		}
	}
	return j.apply(final, l.sequence)
}

// scan follows the log to the last transaction that was committed whole.
func (j *journal) scan() (*log, error) {
	at, l := be.Uint32(j.block[jsStart:]), &log{sequence: be.Uint32(j.block[jsSequence:])}
	if at == 0 {
		return l, nil
	}
	if at < j.first || at >= j.length {
		return nil, fmt.Errorf("%w: the journal begins at block %d of %d", ErrCorrupt, at, j.length)
	}
	var open log // the transaction whose commit block has not come yet
	for steps := j.first; steps < j.length; {
		p, err := j.readLog(at)
		if err != nil {
			return nil, err
		}
		if be.Uint32(p) != journalMagic || be.Uint32(p[8:]) != l.sequence {
			break
		}
		here := at
		at, steps = j.after(at), steps+1
		switch be.Uint32(p[4:]) {
		case journalDescriptor:
			if !j.tailSealed(p) {
				return l, nil
			}
			tags := j.tags(p, l.sequence)
			for i := range tags {
				tags[i].from, at, steps = at, j.after(at), steps+1
			}
			open.updates = append(open.updates, tags...)
		case journalRevoke:
			if !j.tailSealed(p) {
				return l, nil
			}
			open.revoked = append(open.revoked, revocation{here, l.sequence})
		case journalCommit:
			if j.sums() && be.Uint32(p[commitSum:]) != j.commitSum(p) {
				return l, nil
			}
			l.updates = append(l.updates, open.updates...)
			l.revoked = append(l.revoked, open.revoked...)
			l.sequence++
			open = log{}
		default:
			return l, nil
		}
	}
	return l, nil
}

func (j *journal) tailSealed(p []byte) bool {
	return !j.sums() || be.Uint32(p[len(p)-4:]) == j.tailSum(p)
}

// tags decodes a descriptor block.
func (j *journal) tags(p []byte, sequence uint32) []update {
	end := len(p)
	if j.sums() {
		end -= 4
	}
	var all []update
	for at, size := journalHeader, j.tagSize(); at+size <= end; {
		t := p[at:]
		u := update{target: uint64(be.Uint32(t)), sequence: sequence}
		flags := uint32(be.Uint16(t[6:]))
		if j.flags&journalSumV3 != 0 {
			flags = be.Uint32(t[4:])
			u.sum = be.Uint32(t[12:])
		} else {
			u.sum = uint32(be.Uint16(t[4:]))
		}
		if j.flags&journal64Bit != 0 {
			u.target |= uint64(be.Uint32(t[8:])) << 32
		}
		u.escaped = flags&tagEscaped != 0
		all = append(all, u)
		at += size
		if flags&tagSameUUID == 0 {
			at += 16
		}
		if flags&tagLast != 0 {
			break
		}
	}
	return all
}

// final returns the last update of each block that no revocation forbids.
func (j *journal) final(l *log) ([]update, error) {
	last := make(map[uint64]int, len(l.updates))
	for i := range l.updates {
		last[l.updates[i].target] = i
	}
	for _, r := range l.revoked {
		if err := j.revoke(last, l.updates, r); err != nil {
			return nil, err
		}
	}
	var all []update
	for i, u := range l.updates {
		if at, ok := last[u.target]; ok && at == i {
			all = append(all, u)
		}
	}
	return all, nil
}

// revoke deletes from last what r forbids. An update of the same sequence is forbidden
// too: within a transaction the revocation comes last.
func (j *journal) revoke(last map[uint64]int, updates []update, r revocation) error {
	p, err := j.readLog(r.from)
	if err != nil {
		return err
	}
	size, end := 4, len(p)
	if j.flags&journal64Bit != 0 {
		size = 8
	}
	if j.sums() {
		end -= 4
	}
	used := be.Uint32(p[journalHeader:])
	if used > uint32(end) {
		return fmt.Errorf("%w: a revocation of %d bytes", ErrCorrupt, used)
	}
	for at := journalHeader + 4; at+size <= int(used); at += size {
		target := uint64(be.Uint32(p[at:]))
		if size == 8 {
			target = be.Uint64(p[at:])
		}
		// Sequence numbers wrap around.
		if i, ok := last[target]; ok && int32(updates[i].sequence-r.sequence) <= 0 {
			delete(last, target)
		}
	}
	return nil
}

// content reads what an update writes.
func (j *journal) content(u *update) (p []byte, sum uint32, err error) {
	if p, err = j.readLog(u.from); err != nil {
		return nil, 0, err
	}
	sum = j.blockSum(p, u.sequence)
	if u.escaped {
		be.PutUint32(p, journalMagic)
	}
	return p, sum, nil
}

func (j *journal) verify(u *update) error {
	p, sum, err := j.content(u)
	if err != nil {
		return err
	}
	if j.flags&journalSumV3 == 0 {
		sum &= 0xFFFF
	}
	if j.sums() && sum != u.sum {
		return fmt.Errorf("%w: journal: checksum of block %d is wrong", ErrCorrupt, u.target)
	}
	size, err := j.Size()
	if err != nil {
		return err
	}
	// A transaction that grew the file system writes beyond the end known so far.
	if u.target >= uint64(size)/uint64(j.geo.blockSize) {
		return fmt.Errorf("%w: journal: block %d lies outside", ErrCorrupt, u.target)
	}
	if block, offset := superPlace(j.geo.blockSize); u.target == block {
		s := superblock(p[offset:][:superSize])
		if s.u16(sbMagic) != magic || s.hasChecksums() && !s.sealed() {
			return fmt.Errorf("%w: journal: malformed superblock", ErrCorrupt)
		}
		return s.check()
	}
	return nil
}

// apply writes the updates, then empties the log and marks the file system clean.
func (j *journal) apply(updates []update, next uint32) error {
	for i := range updates {
		p, _, err := j.content(&updates[i])
		if err != nil {
			return err
		}
		if _, err := j.WriteAt(p, j.geo.offset(updates[i].target)); err != nil {
			return err
		}
	}
	if err := j.Sync(); err != nil {
		return err
	}
	// Linux leaves out a number, too: an unfinished transaction may bear it.
	if err := j.mark(0, next+1); err != nil {
		return err
	}
	if err := j.Sync(); err != nil {
		return err
	}
	s, err := readSuper(j.image)
	if err != nil {
		return err
	}
	*j.super, j.geo = *s, newGeometry(s)
	j.super.put32(sbIncompat, j.super.u32(sbIncompat)&^incompatRecover)
	if err := j.writeSuper(); err != nil {
		return err
	}
	return j.Sync()
}
