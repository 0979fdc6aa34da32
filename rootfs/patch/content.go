package patch

import "io"

// joined is the content of a file with more behind it.
type joined struct {
	head *io.SectionReader
	tail []byte
}

// ReadAt implements io.ReaderAt.
func (j *joined) ReadAt(p []byte, off int64) (n int, err error) {
	size := j.head.Size()
	if off < size {
		n, err = j.head.ReadAt(p[:min(int64(len(p)), size-off)], off)
		if n == len(p) || err != nil && err != io.EOF {
			return n, err
		}
		if off+int64(n) < size {
			return n, io.ErrUnexpectedEOF
		}
	}
	if at := off + int64(n) - size; at < int64(len(j.tail)) {
		n += copy(p[n:], j.tail[at:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
