package proxy

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
)

// Values of RFC 1928 and RFC 1929.
const (
	commandConnect   = 1
	commandAssociate = 3

	methodNone     = 0
	methodPassword = 2
	methodRefused  = 0xff

	passwordVersion = 1

	typeIPv4 = 1
	typeName = 3
	typeIPv6 = 4

	replyHead = 4 // version, code, reserved, type
)

// reasons are the codes of a reply that is none of success.
var reasons = [...]string{
	1: "general failure", 2: "not allowed by its rules", 3: "network unreachable", 4: "host unreachable",
	5: "connection refused", 6: "time to live expired", 7: "command not supported", 8: "kind of address not supported",
}

// request5 makes a proxy of version 5 carry out a command for an address and returns the
// address that it answers with; that of a name is invalid.
func request5(rw io.ReadWriter, cfg *Config, command byte, to netip.AddrPort) (netip.AddrPort, error) {
	if err := identify5(rw, cfg); err != nil {
		return netip.AddrPort{}, err
	}
	if _, err := rw.Write(appendAddr([]byte{byte(SOCKS5), command, 0}, to)); err != nil {
		return netip.AddrPort{}, err
	}
	var head [replyHead]byte
	if _, err := io.ReadFull(rw, head[:]); err != nil {
		return netip.AddrPort{}, cutShort(err)
	}
	switch code := int(head[1]); {
	case head[0] != byte(SOCKS5):
		return netip.AddrPort{}, fmt.Errorf("%w: version %d of a reply", ErrProtocol, head[0])
	case code > 0 && code < len(reasons):
		return netip.AddrPort{}, fmt.Errorf("%w: %s", ErrRefused, reasons[code])
	case code > 0:
		return netip.AddrPort{}, fmt.Errorf("%w: code %d", ErrRefused, code)
	}
	return readAddr(rw, head[3])
}

// identify5 agrees on a method to identify the user, and does.
func identify5(rw io.ReadWriter, cfg *Config) error {
	hello := []byte{byte(SOCKS5), 1, methodNone}
	if cfg.Username != "" {
		hello = []byte{byte(SOCKS5), 2, methodNone, methodPassword}
	}
	if _, err := rw.Write(hello); err != nil {
		return err
	}
	var answer [2]byte
	if _, err := io.ReadFull(rw, answer[:]); err != nil {
		return cutShort(err)
	}
	switch {
	case answer[0] != byte(SOCKS5):
		return fmt.Errorf("%w: version %d", ErrProtocol, answer[0])
	case answer[1] == methodNone:
		return nil
	case answer[1] == methodRefused && cfg.Username == "":
		return fmt.Errorf("%w: it wants a user name and a password", ErrRefused)
	case answer[1] == methodRefused:
		return fmt.Errorf("%w: it takes no user name and password", ErrRefused)
	case answer[1] != methodPassword || cfg.Username == "":
		return fmt.Errorf("%w: method %d was not offered", ErrProtocol, answer[1])
	}
	b := append([]byte{passwordVersion, byte(len(cfg.Username))}, cfg.Username...)
	b = append(append(b, byte(len(cfg.Password))), cfg.Password...)
	if _, err := rw.Write(b); err != nil {
		return err
	}
	if _, err := io.ReadFull(rw, answer[:]); err != nil {
		return cutShort(err)
	}
	if answer[0] != passwordVersion {
		return fmt.Errorf("%w: version %d about the password", ErrProtocol, answer[0])
	}
	if answer[1] != 0 {
		return fmt.Errorf("%w: wrong user name or password", ErrRefused)
	}
	return nil
}

// appendAddr appends the type, address and port of a.
func appendAddr(b []byte, a netip.AddrPort) []byte {
	kind := byte(typeIPv4)
	if a.Addr().Is6() {
		kind = typeIPv6
	}
	return binary.BigEndian.AppendUint16(append(append(b, kind), a.Addr().AsSlice()...), a.Port())
}

// addrLength is how many bytes address and port of a kind take, 0 if it is neither IPv4's
// nor IPv6's.
func addrLength(kind byte) int {
	switch kind {
	case typeIPv4:
		return 4 + 2
	case typeIPv6:
		return 16 + 2
	}
	return 0
}

// parseAddr is the address and port in b, whose length is addrLength.
func parseAddr(b []byte) netip.AddrPort {
	a, _ := netip.AddrFromSlice(b[:len(b)-2])
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[len(b)-2:]))
}

// readAddr reads address and port of a kind. A name is read and not looked up.
func readAddr(r io.Reader, kind byte) (a netip.AddrPort, err error) {
	n := addrLength(kind)
	if kind == typeName {
		var length [1]byte
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return a, cutShort(err)
		}
		n = int(length[0]) + 2
	}
	if n == 0 {
		return a, fmt.Errorf("%w: address of kind %d", ErrProtocol, kind)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return a, cutShort(err)
	}
	if kind != typeName {
		a = parseAddr(b)
	}
	return a, nil
}
