package netstack

import (
	"context"
	"time"

	"github.com/gomsb/gomsb/netstack/secrets"
	"github.com/gomsb/gomsb/netstack/sni"
)

const (
	// peekWait is how long a guest may take to say which server it wants, if it may be
	// silent; helloWait if the connection is good for nothing but TLS.
	peekWait  = 5 * time.Second
	helloWait = 10 * time.Second
)

// peekName reads what the guest sends first, after the bytes of first, as far as it takes
// to know the name of the server in a TLS ClientHello; "" if there is none. The bytes
// that it returns are to be sent on.
func (c *guestConn) peekName(ctx context.Context, first []byte, wait time.Duration) (all []byte, name string) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	b := make([]byte, max(sni.Limit, len(first)))
	n := copy(b, first)
	var err error
	for {
		name, r := sni.Parse(b[:n])
		if r != sni.More || err != nil || n == len(b) {
			return b[:n], name
		}
		var k int
		k, err = c.read(ctx, b[n:])
		n += k
	}
}

// peekHost is peekName for the host in the head of a request, whose name is canonical.
func (c *guestConn) peekHost(ctx context.Context, first []byte, wait time.Duration) (all []byte, host string) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	all = first
	b := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(b)
	for {
		host, more := secrets.RequestHost(all)
		if !more {
			return all, canonical(host)
		}
		n, err := c.read(ctx, b[:])
		all = append(all, b[:n]...)
		if err != nil {
			return all, ""
		}
	}
}
