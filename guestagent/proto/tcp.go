package proto

// TCPConnect is the payload of core.tcp.connect: the guest resolves Host, a name or an
// address, and connects to it.
type TCPConnect struct {
	Host string `cbor:"host"`
	Port uint16 `cbor:"port"`
}

// TCPFailed is the payload of core.tcp.failed.
type TCPFailed struct {
	Error string `cbor:"error"`
}
