//go:build linux

package netconf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// batch collects netlink requests. The kernel carries them out in order and answers
// each by itself.
type batch struct {
	buf    []byte
	start  int                  // of the request being built
	what   []string             // each request's purpose; request n has sequence number n+1
	excuse map[int][]unix.Errno // by sequence number, the failures that are none
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

// unless excuses failures of the request being built.
func (b *batch) unless(errnos ...unix.Errno) {
	if b.excuse == nil {
		b.excuse = make(map[int][]unix.Errno)
	}
	b.excuse[len(b.what)] = append(b.excuse[len(b.what)], errnos...)
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
		return fmt.Errorf("netlink: %w", err)
	}
	results := make([]error, len(b.what))
	buf := make([]byte, answers)
	for left := len(b.what); left > 0; {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("netlink: %w", err)
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

var errAnswer = errors.New("netlink: malformed answer")

// read notes the acknowledgements in p and returns how many there were.
func (b *batch) read(p []byte, results []error) (done int, err error) {
	for len(p) > 0 {
		m, rest, err := nextMessage(p)
		if err != nil {
			return done, err
		}
		p = rest
		if m.typ != unix.NLMSG_ERROR {
			continue
		}
		if m.seq == 0 || int(m.seq) > len(results) || len(m.body) < 4 {
			return done, errAnswer
		}
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(m.body)))
		if errno != 0 && !slices.Contains(b.excuse[int(m.seq)], errno) {
			results[m.seq-1] = fmt.Errorf("%s: %w", b.what[m.seq-1], errno)
		}
		done++
	}
	return done, nil
}

// answer is one message of the kernel.
type answer struct {
	typ  uint16
	seq  uint32
	body []byte
}

// nextMessage splits the first message off p, which is not empty.
func nextMessage(p []byte) (m answer, rest []byte, err error) {
	if len(p) < unix.SizeofNlMsghdr {
		return m, nil, errAnswer
	}
	size := int(binary.NativeEndian.Uint32(p))
	if size < unix.SizeofNlMsghdr || size > len(p) {
		return m, nil, errAnswer
	}
	m = answer{typ: binary.NativeEndian.Uint16(p[4:]), seq: binary.NativeEndian.Uint32(p[8:]), body: p[unix.SizeofNlMsghdr:size]}
	return m, p[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(p)):], nil
}

// dumpRoom is room for what one read of a dump returns, bytes: the kernel sends at most
// this much at once to those who have it.
const dumpRoom = 32 << 10

// dump asks for all objects of a kind and calls f with each answer's body.
func dump(fd int, typ uint16, request []byte, f func(body []byte) error) error {
	ne := binary.NativeEndian
	b := ne.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(request)))
	b = ne.AppendUint16(b, typ)
	b = ne.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // sequence number and sender
	if err := unix.Sendto(fd, append(b, request...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	buf := make([]byte, dumpRoom)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("netlink: %w", err)
		}
		if ended, err := objects(buf[:n], f); ended || err != nil {
			return err
		}
	}
}

// objects calls f with the body of each object in p. ended is true after the last one.
func objects(p []byte, f func(body []byte) error) (ended bool, err error) {
	for len(p) > 0 {
		m, rest, err := nextMessage(p)
		if err != nil {
			return false, err
		}
		p = rest
		switch m.typ {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(m.body) < 4 {
				return false, errAnswer
			}
			return true, fmt.Errorf("netlink: %w", unix.Errno(-int32(binary.NativeEndian.Uint32(m.body))))
		case unix.NLMSG_NOOP:
		default:
			if err := f(m.body); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}
