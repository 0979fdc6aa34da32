//go:build unix

package netstack

import (
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// tryRead reads from the descriptor without waiting; false means that there is nothing.
func (r *hostReader) tryRead(fd uintptr) bool {
	b := buffers.Get().(*[bufferSize]byte)
	for {
		n, err := unix.Read(int(fd), b[:r.most])
		switch err {
		case nil:
			r.buf, r.n = b, n
			if _, stream := r.conn.(*net.TCPConn); stream && n == 0 {
				r.err = io.EOF
			}
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			buffers.Put(b)
			return false
		default:
			r.buf, r.err = b, err
			return true
		}
	}
}
