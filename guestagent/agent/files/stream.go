//go:build linux

package files

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// newFileMode is that of new files unless asked otherwise; the umask applies.
const newFileMode = 0o666

// openFlags translates the options. Combinations that make no sense are EINVAL.
func openFlags(o proto.FSOpenOptions) (int, error) {
	var flags int
	switch {
	case o.Append && o.Read:
		flags = unix.O_RDWR | unix.O_APPEND
	case o.Append:
		flags = unix.O_WRONLY | unix.O_APPEND
	case o.Read && o.Write:
		flags = unix.O_RDWR
	case o.Write:
		flags = unix.O_WRONLY
	case o.Read:
		flags = unix.O_RDONLY
	default:
		return 0, unix.EINVAL
	}
	writes := o.Write || o.Append
	switch {
	case o.CreateNew && !writes, o.Create && !writes, o.Truncate && !o.Write && !o.Append:
		return 0, unix.EINVAL
	case o.Truncate && o.Append && !o.CreateNew:
		return 0, unix.EINVAL
	case o.CreateNew:
		return flags | unix.O_CREAT | unix.O_EXCL, nil
	}
	if o.Create {
		flags |= unix.O_CREAT
	}
	if o.Truncate {
		flags |= unix.O_TRUNC
	}
	return flags, nil
}

func (s *Service) openFile(id uint32, op proto.FSOpenFile) (*proto.FSResult, error) {
	flags, err := openFlags(op.Options)
	if err != nil {
		return nil, failed("open: ", err)
	}
	mode := uint32(newFileMode)
	if op.Options.Mode != nil {
		mode = *op.Options.Mode & permissions
	}
	fd, err := open(op.Path, flags, mode)
	if err != nil {
		return nil, failed("open: ", err)
	}
	number, err := s.add(&handle{
		owner: slot(id), file: os.NewFile(uintptr(fd), op.Path), path: op.Path,
		read: op.Options.Read, write: op.Options.Write || op.Options.Append,
	})
	if err != nil {
		return nil, err
	}
	return &proto.FSResult{Kind: proto.ResultHandle, Handle: number}, nil
}

// maxOffset is the largest position in a file.
const maxOffset = 1<<63 - 1

// at describes an error of reading or writing at a position: files that have none fail
// in seeking already.
func at(step string, err error) error {
	if errors.Is(err, unix.ESPIPE) {
		step = "seek: "
	}
	return failed(step, err)
}

// Read passes a file to emit in pieces of at most len(buf) bytes, which emit does not
// keep. An error of emit ends it and is returned as it is.
func (s *Service) Read(id uint32, op proto.FSRead, buf []byte, emit func(p []byte) error) error {
	h, err := s.findFile(id, op.Handle)
	if err != nil {
		return err
	}
	if !h.read {
		return fmt.Errorf("handle %d is not open for reading", op.Handle)
	}
	if op.Offset > maxOffset {
		return failed("seek: ", unix.EINVAL)
	}
	left := uint64(maxOffset) - op.Offset
	if op.Len != nil {
		left = min(left, *op.Len)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for offset := int64(op.Offset); left > 0; {
		n, err := preadFile(h.file, buf[:min(uint64(len(buf)), left)], offset)
		if err != nil {
			return at("read: ", err)
		}
		if n == 0 {
			return nil
		}
		if err := emit(buf[:n]); err != nil {
			return err
		}
		offset += int64(n)
		left -= uint64(n)
	}
	return nil
}

// preadFile reads once; 0 is the end of the file.
func preadFile(f *os.File, p []byte, offset int64) (n int, err error) {
	// Not ReadAt, which refuses some files and goes on until p is full.
	err = onFD(f, func(fd int) error {
		n, err = unix.Pread(fd, p, offset)
		return err
	})
	return max(n, 0), err
}

// Upload is a write that receives its data in pieces. It holds its handle until End or
// Abort.
type Upload struct {
	h       *handle
	offset  int64
	want    *uint64
	written uint64
}

// Write begins a write. It waits for other operations on the handle.
func (s *Service) Write(id uint32, op proto.FSWrite) (*Upload, error) {
	h, err := s.findFile(id, op.Handle)
	if err != nil {
		return nil, err
	}
	if !h.write {
		return nil, fmt.Errorf("handle %d is not open for writing", op.Handle)
	}
	if op.Offset > maxOffset {
		return nil, failed("seek: ", unix.EINVAL)
	}
	h.mu.Lock()
	return &Upload{h: h, offset: int64(op.Offset), want: op.Len}, nil
}

// Put writes one piece behind the ones before it. On a handle that appends, the kernel
// ignores the position.
func (u *Upload) Put(p []byte) error {
	for len(p) > 0 {
		var n int
		err := onFD(u.h.file, func(fd int) (err error) {
			n, err = unix.Pwrite(fd, p, u.offset)
			return err
		})
		if err == nil && n <= 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return at("write: ", err)
		}
		p = p[n:]
		u.offset += int64(n)
		u.written += uint64(n)
	}
	return nil
}

// End ends the write and reports whether it had the announced length.
func (u *Upload) End() error {
	u.h.mu.Unlock()
	if u.want != nil && *u.want != u.written {
		return fmt.Errorf("write length mismatch: expected %d, wrote %d", *u.want, u.written)
	}
	return nil
}

// Abort ends a write that failed, or whose client is gone.
func (u *Upload) Abort() { u.h.mu.Unlock() }
