package erofs

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// LayerFile is the file that a LayerWriter fills. It is empty at first; what is never
// written reads as zeros.
type LayerFile interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}

// layerBuffer is how much content a LayerWriter gathers before it writes. holeSize is
// the least run of zeros, aligned, that it leaves out.
const (
	layerBuffer = 1 << 20
	holeSize    = 64 << 10
)

// LayerWriter writes the image of one layer in one pass: content as it comes from the
// archive, each file in blocks of its own, then the metadata of a tree of changes that
// refers to it. It is the sink for rootfs/layer, whose files then have the writer as
// their Content. Memory is bounded by a buffer and the plan.
//
// Layout: superblock, content, inodes, directories and link targets; the superblock is
// written last. In all else the image is as Build makes it, with whiteouts, opaque
// directories and the like stored as the doc of ReadLayer says. Equal archives give
// equal bytes.
type LayerWriter struct {
	file LayerFile
	buf  []byte
	off  int64 // file offset that buf will be written to
}

// NewLayerWriter returns a writer into an empty file.
func NewLayerWriter(file LayerFile) *LayerWriter {
	return &LayerWriter{file: file, buf: make([]byte, 0, layerBuffer), off: BlockSize}
}

// Append stores exactly n bytes from r from the next block on and returns their offset
// in the image. A source that ends early is io.ErrUnexpectedEOF.
func (l *LayerWriter) Append(r io.Reader, n int64) (int64, error) {
	start := l.off + int64(len(l.buf))
	if n > noBlock<<blockBits-start {
		return 0, fmt.Errorf("%w: more than %d blocks", ErrTree, uint32(noBlock))
	}
	pad := int(-n & (BlockSize - 1))
	for n > 0 {
		room := l.buf[len(l.buf):min(int64(cap(l.buf)), int64(len(l.buf))+n)]
		got, err := io.ReadFull(r, room)
		l.buf = l.buf[:len(l.buf)+got]
		n -= int64(got)
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		if err := l.spill(false); err != nil {
			return 0, err
		}
	}
	l.buf = append(l.buf, zeroBlock[:pad]...) // the buffer is a multiple of the block size
	return start, l.spill(false)
}

// ReadAt reads content that was appended; it is safe for concurrent use after Finish.
func (l *LayerWriter) ReadAt(p []byte, off int64) (int, error) { return l.file.ReadAt(p, off) }

var zeroHole [holeSize]byte

// spill writes the buffer if it is full or must be, without long runs of zeros.
func (l *LayerWriter) spill(must bool) error {
	if len(l.buf) < cap(l.buf) && !must {
		return nil
	}
	for begin := 0; begin < len(l.buf); {
		end := begin
		for end < len(l.buf) {
			piece := l.buf[end:min(len(l.buf), end+holeSize)]
			if bytes.Equal(piece, zeroHole[:len(piece)]) {
				break
			}
			end += len(piece)
		}
		if end > begin {
			if _, err := l.file.WriteAt(l.buf[begin:end], l.off+int64(begin)); err != nil {
				return err
			}
		}
		begin = end + holeSize
	}
	l.off += int64(len(l.buf))
	l.buf = l.buf[:0]
	return nil
}

// Finish writes the metadata. t is a tree of changes whose files hold what Append
// stored; it is not changed. Errors wrap ErrTree if the tree cannot be represented, or
// are those of the file.
func (l *LayerWriter) Finish(t *tree.Tree) (Info, error) {
	if err := l.spill(true); err != nil {
		return Info{}, err
	}
	p := &plan{begin: uint64(l.off) >> blockBits, marks: true, stored: l}
	if err := p.build(t); err != nil {
		return Info{}, err
	}
	out := &writer{plan: p, w: bufio.NewWriterSize(io.NewOffsetWriter(l.file, l.off), layerBuffer), first: p.firstData()}
	if err := out.body(); err != nil {
		return Info{}, err
	}
	if err := out.w.Flush(); err != nil {
		return Info{}, err
	}
	info := p.info()
	if err := l.file.Truncate(info.Size()); err != nil {
		return Info{}, err
	}
	_, err := l.file.WriteAt(p.head(superblock{label: layerLabel}), 0)
	return info, err
}
