package proxy

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
)

const (
	granted4     = 90
	reply4Length = 8
)

// connect4 asks a proxy of version 4 for a connection.
func connect4(rw io.ReadWriter, to netip.AddrPort, user string) error {
	addr := to.Addr().As4()
	b := binary.BigEndian.AppendUint16([]byte{byte(SOCKS4), commandConnect}, to.Port())
	b = append(append(append(b, addr[:]...), user...), 0)
	if _, err := rw.Write(b); err != nil {
		return err
	}
	var reply [reply4Length]byte
	if _, err := io.ReadFull(rw, reply[:]); err != nil {
		return cutShort(err)
	}
	switch {
	case reply[0] != 0:
		return fmt.Errorf("%w: version %d of a reply", ErrProtocol, reply[0])
	case reply[1] != granted4:
		return fmt.Errorf("%w: code %d", ErrRefused, reply[1])
	}
	return nil
}

// cutShort is the error for a proxy that ended the connection before it had answered.
func cutShort(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it closed the connection", ErrRefused)
	}
	return err
}
