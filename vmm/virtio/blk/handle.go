package blk

import (
	"errors"
	"fmt"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// maxInlineWrite is the longest write in bytes that the queue's goroutine does by itself:
// one that the page cache takes at once.
const maxInlineWrite = 64 << 10

// dispatch serves r, at once if that does not block, or if it is short and alone, so that
// nothing waits behind it. An error is the end of the queue.
func (a *activation) dispatch(r *request, alone bool) error {
	if r.chain.WritableLen() == 0 {
		return fmt.Errorf("%w: request without a status byte", virtio.ErrGuest)
	}
	if s := a.parse(r); s != statusOK {
		a.complain(r.header, errRequest)
		return a.complete(r, s, a.filled(r, s))
	}
	here := false
	switch r.header.kind {
	case kindRead:
		attempt, err := a.tryRead(r)
		if attempt == attemptDone {
			s := a.finish(r, err)
			return a.complete(r, s, a.filled(r, s))
		}
		here = alone && attempt == attemptUnknown
	case kindWrite:
		here = alone && r.extent.n <= maxInlineWrite && !a.writeThrough
	case kindGetID:
		here = true
	}
	if !here {
		return a.hand(r)
	}
	if err := a.notify(); err != nil {
		return err
	}
	s, n := a.execute(r)
	return a.complete(r, s, n)
}

// errRequest is what complain says of a request that makes no sense.
var errRequest = errors.New("invalid request")

// parse reads the header of r and checks what it asks for.
func (a *activation) parse(r *request) status {
	r.header, r.data = header{}, r.data[:0]
	var b [headerSize]byte
	if r.chain.Read(0, b[:]) < headerSize {
		return statusIOError
	}
	r.header = parseHeader(&b)
	in, out := r.chain.ReadableLen()-headerSize, r.chain.WritableLen()-1
	var ok bool
	switch r.header.kind {
	case kindRead:
		r.extent, ok = locate(r.header.sector, out, a.size)
		r.data = virtio.Cut(r.data, r.chain.Writable, 0, out)
		ok = ok && in == 0
	case kindWrite:
		r.extent, ok = locate(r.header.sector, in, a.size)
		r.data = virtio.Cut(r.data, r.chain.Readable, headerSize, in)
		ok = ok && out == 0 && !a.readOnly
	case kindGetID:
		r.data = virtio.Cut(r.data, r.chain.Writable, 0, out)
		ok = in == 0 && out >= serialSize
	case kindFlush:
		if a.readOnly {
			return statusUnsupported
		}
		ok = in == 0 && out == 0
	case kindDiscard, kindWriteZeroes:
		if a.readOnly {
			return statusUnsupported
		}
		ok = in > 0 && in%rangeSize == 0 && in/rangeSize <= maxRanges && out == 0
	default:
		return statusUnsupported
	}
	if !ok {
		return statusIOError
	}
	return statusOK
}

// tryRead reads r if that does not wait for a disk.
func (a *activation) tryRead(r *request) (attempt, error) {
	switch {
	case r.extent.n == 0:
		return attemptDone, nil
	case a.try == nil:
		return attemptUnknown, nil
	}
	return a.try.TryReadV(r.extent.off, r.data)
}

// execute does what r asks for and returns how it went and how many bytes of its buffers
// were filled. It may block.
func (a *activation) execute(r *request) (status, uint32) {
	var err error
	switch r.header.kind {
	case kindRead:
		err = a.backend.ReadV(r.extent.off, r.data)
	case kindWrite:
		err = a.write(r)
	case kindFlush:
		err = a.flush()
	case kindGetID:
		a.identify(r)
	case kindDiscard, kindWriteZeroes:
		err = a.eachRange(r)
	}
	s := a.finish(r, err)
	return s, a.filled(r, s)
}

// finish counts and classifies the end of r.
func (a *activation) finish(r *request, err error) status {
	switch {
	case err == nil:
	case errors.Is(err, errUnknownFlags):
		return statusUnsupported
	default:
		a.complain(r.header, err)
		return statusIOError
	}
	switch r.header.kind {
	case kindRead:
		a.stats.read.Add(r.extent.n)
	case kindWrite:
		a.stats.written.Add(r.extent.n)
	}
	return statusOK
}

// filled is how many bytes of the buffers of r are known to be filled from their start
// on; the status is the last of them.
func (a *activation) filled(r *request, s status) uint32 {
	n := r.chain.WritableLen()
	switch {
	case s != statusOK && n > 1:
		return 0
	case s == statusOK && r.header.kind == kindGetID && n > serialSize+1:
		return serialSize // the status is not next to it
	}
	return uint32(n)
}

func (a *activation) write(r *request) error {
	if r.extent.n == 0 {
		return nil
	}
	err := a.backend.WriteV(r.extent.off, r.data)
	a.dirty.Store(true)
	if err == nil && a.writeThrough {
		err = a.flush()
	}
	return err
}

func (a *activation) flush() error {
	if a.volatile() {
		return nil
	}
	a.dirty.Store(false) // before, so that a write meanwhile counts
	err := a.backend.Flush()
	if err != nil {
		a.dirty.Store(true)
	}
	return err
}

func (a *activation) identify(r *request) {
	b := a.serial[:]
	for _, s := range r.data {
		b = b[copy(s, b):]
	}
}

// errUnknownFlags reports a range with flags that its request cannot have.
var errUnknownFlags = errors.New("flags of a range are not known")

// eachRange carries out a discard or a write of zeroes. Each range is read once.
func (a *activation) eachRange(r *request) error {
	longest, known := uint64(maxDiscardSectors), uint32(0)
	if r.header.kind == kindWriteZeroes {
		longest, known = maxZeroSectors, flagUnmap
	}
	n := (r.chain.ReadableLen() - headerSize) / rangeSize
	for i := range n {
		var b [rangeSize]byte
		r.chain.Read(headerSize+i*rangeSize, b[:])
		e, flags, ok := parseRange(&b, a.size)
		switch {
		case flags&^known != 0:
			return errUnknownFlags
		case !ok || e.n > longest*SectorSize:
			return errRequest
		case e.n == 0:
			continue
		}
		var err error
		if r.header.kind == kindDiscard {
			err = a.backend.Discard(e.off, e.n)
		} else {
			err = a.backend.WriteZeroes(e.off, e.n, flags&flagUnmap != 0)
		}
		a.dirty.Store(true)
		if err == nil && a.writeThrough {
			err = a.flush()
		}
		if err != nil {
			return err
		}
	}
	return nil
}
