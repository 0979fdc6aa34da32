//go:build unix

package netstack

import (
	"io"

	"golang.org/x/sys/unix"
)

// tryRead reads from the descriptor without waiting; false means that there is nothing. Of a
// stream it reads all there is, if that fits, and its end.
func (r *hostReader) tryRead(fd uintptr) bool {
	b := buffers.Get().(*[bufferSize]byte)
	for {
		n, err := unix.Read(int(fd), b[r.n:r.most])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN && r.n == 0:
			buffers.Put(b)
			return false
		case err == unix.EAGAIN:
			r.buf = b
			return true
		case err != nil:
			r.buf, r.err = b, err
			return true
		case r.stream && n == 0:
			r.buf, r.err = b, io.EOF
			return true
		default:
			if r.n += n; !r.stream || r.n == r.most {
				r.buf = b
				return true
			}
		}
	}
}
