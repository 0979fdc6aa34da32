package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Open opens the kernel file at path: a libkrunfw shared object, an ELF vmlinux or a
// bzImage. The file is read once into private memory, so that later changes to it
// have no effect. Errors wrap ErrFormat, ErrTruncated, ErrLayout or ErrTooLarge, or
// are those of the file system.
func Open(path string) (*Image, error) {
	// Non-blocking, so that naming a FIFO fails instead of hanging.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open kernel: %w", err)
	}
	defer f.Close()
	mem, err := readPrivate(f)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", path, err)
	}
	img, err := Parse(mem)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("kernel %s: %w", path, err), unix.Munmap(mem))
	}
	for n := range img.Segments {
		img.Segments[n].Offset = -1
	}
	img.mem = mem
	return img, nil
}

// Parse understands a kernel file held in data, which the Image then refers to.
// Nothing of data is copied or changed. Segment offsets are relative to data.
func Parse(data []byte) (*Image, error) {
	if len(data) > MaxFileSize {
		return nil, fmt.Errorf("%w: file of %d bytes, at most %d", ErrTooLarge, len(data), MaxFileSize)
	}
	var img *Image
	var err error
	switch {
	case bytes.HasPrefix(data, []byte(elfMagic)):
		img, err = parseELF(data)
	case len(data) >= bzHeaderEnd && binary.LittleEndian.Uint32(data[bzMagic:]) == bzMagicHdrS:
		img, err = parseBzImage(data)
	case len(data) < bzHeaderEnd:
		return nil, fmt.Errorf("%w: only %d bytes", ErrTruncated, len(data))
	default:
		return nil, fmt.Errorf("%w: neither ELF nor bzImage", ErrFormat)
	}
	if err != nil {
		return nil, err
	}
	if err := img.check(); err != nil {
		return nil, err
	}
	img.Initrd = img.Initrd || unpacksInitrd(img.Segments)
	return img, nil
}

// readPrivate reads a whole regular file into an anonymous mapping, which unlike the
// heap goes back to the host the moment the image is closed.
func readPrivate(f *os.File) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a regular file", ErrFormat)
	}
	size := st.Size()
	if size > MaxFileSize {
		return nil, fmt.Errorf("%w: file of %d bytes, at most %d", ErrTooLarge, size, MaxFileSize)
	}
	if size == 0 {
		return nil, fmt.Errorf("%w: empty file", ErrTruncated)
	}
	mem, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("memory for %d bytes: %w", size, err)
	}
	if _, err = io.ReadFull(f, mem); err == nil {
		err = unix.Mprotect(mem, unix.PROT_READ)
	} else if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: it shrank while being read", ErrTruncated)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Munmap(mem))
	}
	return mem, nil
}
