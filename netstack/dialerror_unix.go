//go:build unix

package netstack

import (
	"errors"

	"golang.org/x/sys/unix"
)

// otherFamilyMayHelp reports that nobody listens on this family's loopback address, or
// that there is none.
func otherFamilyMayHelp(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENETUNREACH)
}

// refused reports that nobody listens where a datagram was sent.
func refused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }

// tooLong reports that a datagram does not fit through; the next one may.
func tooLong(err error) bool { return errors.Is(err, unix.EMSGSIZE) }
