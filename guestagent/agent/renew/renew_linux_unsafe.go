//go:build linux

package renew

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// Apply renews this guest. r is valid.
func Apply(r *proto.Renew) error {
	host := int64(r.UnixTimeNanos)
	if wrong(time.Since(time.Unix(0, host))) {
		now := unix.NsecToTimespec(host)
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
			return fmt.Errorf("set the clock: %w", err)
		}
	}
	if err := addEntropy(r.Entropy); err != nil {
		return fmt.Errorf("renew the random numbers: %w", err)
	}
	return nil
}

// latest is how late the host's word may come.
const latest = time.Minute

// wrong reports that a clock that is ahead of the host's word by so much is not only ahead
// because the word is late: our kernel has set it before (kernel/patches/0009-renew-port.patch).
func wrong(ahead time.Duration) bool { return ahead < 0 || ahead > latest }

// addEntropy credits the bytes to the kernel's generator and has it draw new keys from
// them at once (random(4)).
func addEntropy(b []byte) error {
	// Whatever users have put in its place, it is not waited for.
	fd, err := unix.Open("/dev/urandom", unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	info := poolInfo(b)
	// SAFETY: RNDADDENTROPY reads a struct rand_pool_info, which is what info holds.
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info[0])))
	clear(info)
	if errno == 0 {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), rndReseedCRNG, 0)
	}
	if errno != 0 {
		err = errno
	}
	return errors.Join(err, unix.Close(fd))
}

// rndReseedCRNG is RNDRESEEDCRNG: _IO('R', 7).
const rndReseedCRNG = 0x5207

// poolInfo is a struct rand_pool_info: the entropy in bits, the size in bytes, the bytes.
func poolInfo(b []byte) []byte {
	ne := binary.NativeEndian
	info := make([]byte, 0, 8+len(b))
	info = ne.AppendUint32(info, uint32(8*len(b)))
	info = ne.AppendUint32(info, uint32(len(b)))
	return append(info, b...)
}
