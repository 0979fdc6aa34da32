//go:build linux

package netconf

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// batch collects rtnetlink requests. The kernel carries them out in order and answers
// each by itself.
type batch struct {
	buf   []byte
	start int      // of the request being built
	what  []string // each request's purpose; request n has sequence number n+1
}

// begin ends the request before and starts one that is to be acknowledged.
func (b *batch) begin(what string, typ uint16, flags uint16) {
	b.finish()
	b.what = append(b.what, what)
	b.start = len(b.buf)
	b.buf = append(b.buf, 0, 0, 0, 0) // the length, filled by finish
	b.buf = binary.NativeEndian.AppendUint16(b.buf, typ)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b.buf = binary.NativeEndian.AppendUint32(b.buf, uint32(len(b.what)))
	b.buf = append(b.buf, 0, 0, 0, 0) // the port of the sender: the socket's own
}

func (b *batch) finish() {
	if len(b.what) > 0 {
		binary.NativeEndian.PutUint32(b.buf[b.start:], uint32(len(b.buf)-b.start))
	}
}

// attribute appends a struct rtattr with its padding.
func (b *batch) attribute(typ uint16, value []byte) {
	b.buf = binary.NativeEndian.AppendUint16(b.buf, uint16(unix.SizeofRtAttr+len(value)))
	b.buf = binary.NativeEndian.AppendUint16(b.buf, typ)
	b.buf = append(b.buf, value...)
	for len(b.buf)%unix.NLMSG_ALIGNTO != 0 {
		b.buf = append(b.buf, 0)
	}
}

// answers is room for the acknowledgements that one read returns, bytes.
const answers = 4096

// run sends the requests and reads their answers. The first failure in their order is
// returned.
func (b *batch) run(fd int) error {
	b.finish()
	if err := unix.Sendto(fd, b.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("rtnetlink: %w", err)
	}
	results := make([]error, len(b.what))
	buf := make([]byte, answers)
	for left := len(b.what); left > 0; {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("rtnetlink: %w", err)
		}
		done, err := b.read(buf[:n], results)
		if err != nil {
			return err
		}
		left -= done
	}
	for _, err := range results {
		if err != nil {
			return err
		}
	}
	return nil
}

var errAnswer = errors.New("rtnetlink: malformed answer")

// read notes the acknowledgements in p and returns how many there were.
func (b *batch) read(p []byte, results []error) (done int, err error) {
	for len(p) > 0 {
		if len(p) < unix.SizeofNlMsghdr {
			return done, errAnswer
		}
		size := int(binary.NativeEndian.Uint32(p))
		if size < unix.SizeofNlMsghdr || size > len(p) {
			return done, errAnswer
		}
		if binary.NativeEndian.Uint16(p[4:]) == unix.NLMSG_ERROR {
			seq := binary.NativeEndian.Uint32(p[8:])
			if size < unix.SizeofNlMsghdr+4 || seq == 0 || int(seq) > len(results) {
				return done, errAnswer
			}
			if code := int32(binary.NativeEndian.Uint32(p[unix.SizeofNlMsghdr:])); code != 0 {
				results[seq-1] = fmt.Errorf("%s: %w", b.what[seq-1], unix.Errno(-code))
			}
			done++
		}
		p = p[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(p)):]
	}
	return done, nil
}
