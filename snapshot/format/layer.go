package format

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/snapshot/sparse"
)

// Lifetime is how long a checkpoint is to last.
type Lifetime int

const (
	// Lasting is a checkpoint that is whole and durable, and has checksums.
	Lasting Lifetime = iota
	// Passing is one of which copies are made at once, on this machine: it is not durable, has
	// no checksums, and is good as long as its seal holds and the host is not booted anew. Of a
	// machine that was itself restored it holds what that has written since, and refers to the
	// file that it was restored from if that still has its name.
	Passing
	// PassingBase is Passing with all of the memory in its own file, for a machine that has that
	// file behind its memory from then on, and for the layers of its later checkpoints.
	PassingBase
)

// layer is what a passing checkpoint has in place of checksums.
type layer struct {
	boot  bootID    // in which it is good: nobody knows which of it is on disk after another
	base  string    // path of the file that has the memory outside of own; empty if own is all
	state fileState // of that file
	own   []Range   // what the file "memory" has, in whole pages, ascending
}

// bootID tells the boots of a host from each other, as the kernel does.
type bootID [36]byte

// thisBoot is that of this one; zero where the system does not tell.
func thisBoot() (id bootID) {
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		copy(id[:], b)
	}
	return id
}

// maxPath bounds the path of a base, in bytes, as the kernel does.
const maxPath = 4096

// append appends the layer as the file "machine" has it.
func (l *layer) append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, l.boot[:]...)
	b = append(le.AppendUint32(b, uint32(len(l.base))), l.base...)
	for _, v := range []uint64{l.state.inode, l.state.size, l.state.mtime, l.state.ctime, uint64(len(l.own))} {
		b = le.AppendUint64(b, v)
	}
	for _, r := range l.own {
		b = le.AppendUint64(le.AppendUint64(b, uint64(r.Offset)), uint64(r.Length))
	}
	return b
}

// size is how many bytes append appends.
func (l *layer) size() int64 {
	return int64(len(l.boot)) + 4 + int64(len(l.base)) + 5*8 + 16*int64(len(l.own))
}

// layer takes the inverse of append, which must be all that is left, of a memory of that size.
func (r *reader) layer(memory int64) (*layer, bool) {
	le := binary.LittleEndian
	var boot bootID
	copy(boot[:], r.take(uint64(len(boot))))
	path := string(r.take(uint64(le.Uint32(r.take(4)))))
	l := &layer{boot: boot, base: path, state: fileState{inode: le.Uint64(r.take(8)), size: le.Uint64(r.take(8)), mtime: le.Uint64(r.take(8)), ctime: le.Uint64(r.take(8))}}
	count := le.Uint64(r.take(8))
	if r.short || uint64(len(r.b))%16 != 0 || count != uint64(len(r.b))/16 {
		return nil, false
	}
	var ok bool
	if l.own, ok = decodeRanges(r.b, uint64(memory)); !ok {
		return nil, false
	}
	if slices.ContainsFunc(l.own, func(r Range) bool { return r.Offset%PageSize != 0 || r.Length%PageSize != 0 }) {
		return nil, false
	}
	if path == "" {
		return l, len(l.own) == 1 && l.own[0] == Range{Length: memory}
	}
	return l, len(path) < maxPath && filepath.IsAbs(path) && !strings.Contains(path, "\x00") && l.state.size == uint64(memory)
}

// open opens the base, which must be what it was; nil if there is none.
func (l *layer) open() (*os.File, error) {
	if l.boot != thisBoot() {
		return nil, fmt.Errorf("%w: it was made for copies at once, before the host was booted", ErrDamaged)
	}
	if l.base == "" {
		return nil, nil
	}
	f, err := sparse.Open(l.base)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBase, err)
	}
	s, err := stateOf(f)
	if err == nil && s != l.state {
		err = fmt.Errorf("%w: %s", ErrBase, l.base)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// whole is the file that checkpoints of a machine restored from this one may be based on, and
// that has all that their layers do not have.
func (c *Checkpoint) whole() *os.File {
	if c.base != nil {
		return c.base
	}
	return c.memory
}

// under returns a layer on that file without anything of its own, nil if nobody would find that
// by its name.
func (c *Checkpoint) under() *layer {
	path := c.path
	if c.base != nil {
		path = c.machine.layer.base
	}
	s, err := stateOf(c.whole())
	if err != nil {
		return nil
	}
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil || stateIn(&st) != s || len(path) >= maxPath {
		return nil
	}
	return &layer{base: path, state: s}
}

// BaseSize is how many bytes of a disk the file takes that checkpoints of a machine restored
// from this one may be based on.
func (c *Checkpoint) BaseSize() (int64, error) { return allocated(c.whole()) }

// allocated is how many bytes of a disk a file takes.
func allocated(f *os.File) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}
	return st.Blocks * 512, nil
}

// Piece is a run of memory in the file that has it. Offsets are the same there.
type Piece struct {
	Range
	File *os.File // open for reading until Close; neither its position nor anything else may be changed
}

// Pieces cuts a run of memory into what is in one file each, ascending.
func (c *Checkpoint) Pieces(r Range) []Piece {
	if c.base == nil {
		return []Piece{{r, c.memory}}
	}
	var all []Piece
	at := r.Offset
	add := func(end int64, f *os.File) {
		if end = min(end, r.End()); end > at {
			all = append(all, Piece{Range{at, end - at}, f})
			at = end
		}
	}
	for _, own := range c.machine.layer.own {
		if own.End() > at {
			add(own.Offset, c.base)
			add(own.End(), c.memory)
		}
	}
	add(r.End(), c.base)
	return all
}

// copyTo copies the memory to an empty file.
func (c *Checkpoint) copyTo(ctx context.Context, f *os.File) error {
	c.reading.Lock() // positions of files
	defer c.reading.Unlock()
	if err := sparse.Copy(ctx, f, c.whole()); err != nil || c.base == nil {
		return err
	}
	for _, r := range c.machine.layer.own {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := punch(f, r); err != nil {
			return err
		}
		if err := copyData(f, c.memory, r); err != nil {
			return err
		}
	}
	return nil
}

// copyData copies what is data in a run of a file.
func copyData(to, from *os.File, r Range) error {
	for at := r.Offset; ; {
		e, err := sparse.Next(from, at, r.End())
		if errors.Is(err, sparse.ErrUnsupported) {
			e, err = sparse.Extent{Offset: at, Length: r.End() - at}, nil
		}
		if err != nil || e.Length == 0 {
			return err
		}
		if _, err := io.CopyN(io.NewOffsetWriter(to, e.Offset), io.NewSectionReader(from, e.Offset, e.Length), e.Length); err != nil {
			return err
		}
		if at = e.End(); at == r.End() {
			return nil
		}
	}
}

// nearOwn is how many bytes between two parts that were written are taken into the layer with
// them: each part is a mapping of its own in every copy.
const nearOwn = 8 * PageSize

// joinNear joins parts of one region that are near each other with what is between them.
func joinNear(parts []part) []part {
	var all []part
	last := -1 // of them that is no zeros
	for _, p := range parts {
		if !p.zero {
			if last >= 0 && p.Offset-all[last].End() <= nearOwn {
				all = all[:last+1]
				all[last].Length = p.End() - all[last].Offset
				continue
			}
			last = len(all)
		}
		all = append(all, p)
	}
	return all
}

// writeLayer writes to the empty file f what of mem the file under its base does not have, and
// returns what that is.
func writeLayer(ctx context.Context, f *os.File, h Header, mem Based) ([]Range, error) {
	if err := f.Truncate(h.MemorySize()); err != nil {
		return nil, err
	}
	var own []Range
	under := mem.Base.whole()
	w := &overlay{ctx: ctx, f: f, under: under, empty: true, note: func(r Range) { own = join(own, r) }}
	return own, w.regions(h, mem, under)
}
