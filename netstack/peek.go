package netstack

import (
	"context"
	"time"

	"github.com/gomsb/gomsb/netstack/sni"
)

// peekWait is how long a guest may take to say which server it wants.
const peekWait = 5 * time.Second

// peekName reads what the guest sends first, as far as it takes to know the name of the
// server in a TLS ClientHello; "" if there is none. The bytes read are to be sent on.
func (c *guestConn) peekName(ctx context.Context) (first []byte, name string) {
	ctx, cancel := context.WithTimeout(ctx, peekWait)
	defer cancel()
	b := make([]byte, sni.Limit)
	n := 0
	for {
		k, err := c.read(ctx, b[n:])
		n += k
		name, r := sni.Parse(b[:n])
		if r != sni.More || err != nil || n == len(b) {
			return b[:n], name
		}
	}
}
