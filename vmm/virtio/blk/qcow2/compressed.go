package qcow2

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"

	"github.com/gomsb/gomsb/vmm/virtio/blk"
)

// maxWindow bounds the memory that a zstd frame may ask for, in bytes.
const maxWindow = 8 << 20

// decompressor reads compressed clusters, one at a time, and keeps the last one.
type decompressor struct {
	mu      sync.Mutex
	m       *image
	entry   uint64 // whose content plain is; 0 for none
	plain   []byte
	packed  []byte
	reader  bytes.Reader
	deflate io.ReadCloser
	zstd    *zstd.Decoder
	limit   uint64 // end of the file when it was opened: nothing compressed is added
}

func (d *decompressor) init(m *image) { d.m, d.limit = m, m.file.Size() }

// end frees the decoders.
func (d *decompressor) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.zstd != nil {
		d.zstd.Close()
	}
}

// compressedRange is where the sectors of a compressed cluster are in the file.
func (m *image) compressedRange(entry uint64) (off, n uint64) {
	bits := 62 - (m.clusterBits - 8)
	off = entry & (1<<bits - 1)
	sectors := entry&(flagCompressed-1)>>bits + 1
	return off &^ (sectorSize - 1), sectors * sectorSize
}

// read copies n bytes from in of a compressed cluster to dst after skip.
func (d *decompressor) read(entry, in uint64, dst [][]byte, skip, n uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.entry != entry || d.entry == 0 {
		d.entry = 0
		if err := d.fill(entry); err != nil {
			return err
		}
		d.entry = entry
	}
	from := d.plain[in : in+n]
	for _, s := range dst {
		if skip >= uint64(len(s)) {
			skip -= uint64(len(s))
			continue
		}
		from = from[copy(s[skip:], from):]
		skip = 0
	}
	return nil
}

// fill decompresses a cluster.
func (d *decompressor) fill(entry uint64) error {
	cs := d.m.clusterSize()
	if d.plain == nil {
		d.plain = make([]byte, cs)
		d.packed = make([]byte, 2*cs+sectorSize) // the field for the sectors has no more
	}
	start, n := d.m.compressedRange(entry)
	skip := entry & (1<<(62-(d.m.clusterBits-8)) - 1) & (sectorSize - 1)
	if start >= d.limit || n > uint64(len(d.packed)) {
		return fmt.Errorf("%w: compressed cluster at %#x", ErrCorrupt, start)
	}
	n = min(n, d.limit-start) // the last sector need not be whole
	if n <= skip {
		return fmt.Errorf("%w: compressed cluster at %#x", ErrCorrupt, start)
	}
	if err := d.m.file.Read(start, [][]byte{d.packed}, 0, n); err != nil {
		return err
	}
	d.reader.Reset(d.packed[skip:n])
	r, err := d.open()
	if err == nil {
		_, err = io.ReadFull(r, d.plain)
	}
	if err != nil {
		return fmt.Errorf("%w: compressed cluster at %#x: %w", ErrCorrupt, start, err)
	}
	return nil
}

// open makes a decoder of what d.reader has.
func (d *decompressor) open() (io.Reader, error) {
	if d.m.compression == compressionZstd {
		if d.zstd == nil {
			var err error
			if d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow)); err != nil {
				return nil, err
			}
		}
		return d.zstd, d.zstd.Reset(&d.reader)
	}
	if d.deflate == nil {
		d.deflate = flate.NewReader(&d.reader)
		return d.deflate, nil
	}
	return d.deflate, d.deflate.(flate.Resetter).Reset(&d.reader, nil)
}

var _ blk.Backend = (*image)(nil)
