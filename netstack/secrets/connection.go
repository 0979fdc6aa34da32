package secrets

import "net/netip"

// Connection is one of the guest's whose plaintext may hold placeholders.
type Connection struct {
	// Host is the canonical name of the server: of the ClientHello or, without TLS, of the
	// request; "" if it is not known.
	Host string
	// Dst is where the guest connected to; within a tunnel, the proxy.
	Dst netip.AddrPort
	// Intercepted says that the server has proved to be Host by its certificate, as far as
	// certificates of it are verified.
	Intercepted bool
	// Tunnel says that the connection goes through a proxy that the guest asked with
	// CONNECT: what Host stands for is the proxy's to know, not the sandbox's resolver's.
	Tunnel bool
	// Connect says that this is the head of such a request itself. No secret is meant for
	// a proxy.
	Connect bool
	// Strict refuses all but requests that name Host, whether there are secrets or not.
	Strict bool
}

// Rewriter turns what the guest sends into what its server is to receive. One goroutine
// uses it, for one connection.
type Rewriter interface {
	// Rewrite appends to dst what is to be sent for p, which may be nothing yet, and
	// returns the result. It keeps nothing of p. An error is a *Violation or a *Malformed;
	// after one nothing more of the connection may be sent, what was returned with it
	// neither.
	Rewrite(dst, p []byte) ([]byte, error)
	// End appends what was held back, at the end of what the guest sends. An error, as of
	// Rewrite, says that it may not end there.
	End(dst []byte) ([]byte, error)
	// Close forgets all that is held. It is idempotent.
	Close()
}
