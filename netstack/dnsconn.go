package netstack

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/gomsb/gomsb/netstack/dns"
	"github.com/gomsb/gomsb/netstack/policy"
)

const (
	// dnsIdle is how long a connection to a resolver may be idle.
	dnsIdle = 30 * time.Second
	// pipelined bounds the questions under way on one connection.
	pipelined = 16
)

// serveDNS answers the questions on a TCP connection to port 53 of an address.
func (g *Gateway) serveDNS(ctx context.Context, c *guestConn, dst netip.AddrPort) {
	s := newStream(ctx, c, dst, nil)
	defer s.cancel()
	g.answerAll(s, s, dns.Way{Protocol: policy.TCP, Resolver: g.resolverOf(dst.Addr())})
}

// answerAll answers the questions that come on rw, which is s or carried by it (RFC 7766).
// Answers go when they are there, in any order. When it returns, all that could be
// answered was, or s is closed.
func (g *Gateway) answerAll(s *stream, rw io.ReadWriter, way dns.Way) {
	if g.resolver == nil {
		return
	}
	idle := time.AfterFunc(dnsIdle, s.cancel)
	defer idle.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	var writing sync.Mutex
	slots := make(chan struct{}, pipelined)
	for {
		q, err := readMessage(rw)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				s.cancel() // the answers have nowhere to go
			}
			return
		}
		idle.Reset(dnsIdle)
		if len(q) == 0 {
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		wg.Go(func() {
			defer func() { <-slots }()
			a := g.answer(s.ctx, q, way)
			if a == nil || len(a) > 0xffff {
				return
			}
			m := append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(a)), uint16(len(a))), a...)
			writing.Lock()
			defer writing.Unlock()
			if _, err := rw.Write(m); err != nil {
				s.cancel()
			}
		})
	}
}

// answer has a question answered once few enough others are; nil is no answer.
func (g *Gateway) answer(ctx context.Context, q []byte, way dns.Way) []byte {
	select {
	case g.queries <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	defer func() { <-g.queries }()
	return g.resolver.Answer(ctx, q, way)
}

// readMessage reads one message behind its length.
func readMessage(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	m := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, m)
	return m, err
}
