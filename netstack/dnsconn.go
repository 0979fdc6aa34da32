package netstack

import (
	"context"
	"encoding/binary"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/gomsb/gomsb/netstack/policy"
)

const (
	// dnsIdle is how long a connection to a resolver may be idle.
	dnsIdle = 30 * time.Second
	// pipelined bounds the questions under way on one connection.
	pipelined = 16
)

// serveDNS answers the questions on a TCP connection to port 53 of an address (RFC 7766).
// Answers come when they are there, in any order.
func (g *Gateway) serveDNS(ctx context.Context, c *guestConn, addr netip.Addr) {
	if g.resolver == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := time.AfterFunc(dnsIdle, cancel)
	defer idle.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	var writing sync.Mutex
	slots := make(chan struct{}, pipelined)
	for {
		q, err := readMessage(ctx, c)
		if err != nil {
			if err != io.EOF {
				cancel() // the answers have nowhere to go
			}
			return
		}
		idle.Reset(dnsIdle)
		if len(q) == 0 {
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wg.Go(func() {
			defer func() { <-slots }()
			a := g.answer(ctx, q, addr)
			if a == nil || len(a) > 0xffff {
				return
			}
			m := append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(a)), uint16(len(a))), a...)
			writing.Lock()
			defer writing.Unlock()
			if c.write(ctx, m) != nil {
				cancel()
			}
		})
	}
}

// answer has a question answered once few enough others are; nil is no answer.
func (g *Gateway) answer(ctx context.Context, q []byte, addr netip.Addr) []byte {
	select {
	case g.queries <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	defer func() { <-g.queries }()
	return g.resolver.Answer(ctx, q, policy.TCP, g.resolverOf(addr))
}

// readMessage reads one message behind its length.
func readMessage(ctx context.Context, c *guestConn) ([]byte, error) {
	var size [2]byte
	if err := readFull(ctx, c, size[:]); err != nil {
		return nil, err
	}
	m := make([]byte, binary.BigEndian.Uint16(size[:]))
	err := readFull(ctx, c, m)
	return m, err
}

func readFull(ctx context.Context, c *guestConn, p []byte) error {
	for len(p) > 0 {
		n, err := c.read(ctx, p)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}
