package vsock

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

var (
	// ErrConfig is wrapped by the errors of Config.Validate.
	ErrConfig = errors.New("invalid vsock configuration")
	// ErrReset ends a connection that the guest, or a reset of the device, broke off.
	// It is a syscall.ECONNRESET.
	ErrReset error = fmt.Errorf("vsock: %w", syscall.ECONNRESET)
	// ErrRefused means that nobody in the guest listens on the port. It is a
	// syscall.ECONNREFUSED.
	ErrRefused error = fmt.Errorf("vsock: %w", syscall.ECONNREFUSED)
	// ErrProtocol ends a connection on which the guest broke the rules of virtio 1.2
	// §5.10.6.
	ErrProtocol = errors.New("vsock: guest broke the protocol")
	// ErrNotReady means that no driver in the guest runs the device: try again when the
	// guest has booted.
	ErrNotReady = errors.New("vsock: guest has no driver yet")
	// ErrTooMany means that the device holds as many connections as it may: close some.
	ErrTooMany = errors.New("vsock: too many connections")
)

// Addr is one end of a connection.
type Addr struct {
	CID  uint32 // 2 is the host
	Port uint32
}

// Network is "vsock".
func (Addr) Network() string { return "vsock" }

// String is "CID:port" in decimal.
func (a Addr) String() string {
	return strconv.FormatUint(uint64(a.CID), 10) + ":" + strconv.FormatUint(uint64(a.Port), 10)
}

var _ net.Addr = Addr{}
