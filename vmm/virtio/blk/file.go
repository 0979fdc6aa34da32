package blk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// file is a file of the host that holds sectors. Its reads and writes need no lock.
type file struct {
	f    *os.File
	fd   int
	size uint64 // at the time of open
	waits
}

// openFile opens a regular file or a block device.
func openFile(path string, readOnly bool) (*file, error) {
	mode := os.O_RDWR
	if readOnly {
		mode = os.O_RDONLY
	}
	// Without O_NONBLOCK the open of a named pipe waits for its other end.
	f, err := os.OpenFile(path, mode|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open disk: %w", err)
	}
	size, err := diskSize(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &file{f: f, fd: int(f.Fd()), size: size}, nil
}

func diskSize(f *os.File) (uint64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("open disk: %w", err)
	}
	block := info.Mode()&os.ModeDevice != 0 && info.Mode()&os.ModeCharDevice == 0
	if !info.Mode().IsRegular() && !block {
		return 0, fmt.Errorf("%w: %s is neither a regular file nor a block device", ErrImage, f.Name())
	}
	n, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("open disk: %w", err)
	}
	return uint64(n), nil
}

// read fills n bytes of dst after the first skip, from off of the file.
func (f *file) read(off uint64, dst [][]byte, skip, n uint64) error {
	for n > 0 {
		got, err := f.readSome(off, dst, skip, n)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return err
		case got == 0:
			return io.ErrUnexpectedEOF // the file has become shorter
		}
		off, skip, n = off+got, skip+got, n-got
	}
	return nil
}

// write stores n bytes of src after the first skip, at off of the file.
func (f *file) write(off uint64, src [][]byte, skip, n uint64) error {
	for n > 0 {
		put, err := f.writeSome(off, src, skip, n)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return err
		case put == 0:
			return io.ErrShortWrite
		}
		off, skip, n = off+put, skip+put, n-put
	}
	return nil
}

// length is the number of bytes in list.
func length(list [][]byte) (n uint64) {
	for _, s := range list {
		n += uint64(len(s))
	}
	return n
}
