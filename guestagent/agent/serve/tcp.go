//go:build linux

package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

const (
	connectLimit = 30 * time.Second
	// tcpChunk is how much of a stream goes into one message, bytes.
	tcpChunk = 64 << 10
)

// tcpSession is a connection inside the guest. One goroutine connects and writes, another
// reads.
type tcpSession struct {
	s      *Server
	id     uint32
	in     *inbox
	ctx    context.Context
	cancel context.CancelFunc
	gate   *gate

	gone atomic.Bool // the client does not want to hear of it any more

	mu     sync.Mutex // orders messages to the host: none follows the last
	ended  bool       // protected by mu
	halves int        // directions that ended by themselves; protected by mu
}

func (s *Server) tcpConnect(m proto.Message) {
	gate := s.newGate(m.ID)
	var p proto.TCPConnect
	if !s.decode(m, &p) {
		return
	}
	t := &tcpSession{s: s, id: m.ID, in: s.newInbox(m.ID, gate), gate: gate}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	s.mu.Lock()
	if old := s.tcps[m.ID]; old != nil {
		old.abort()
		s.activity.tcps.Add(-1)
	}
	s.tcps[m.ID] = t
	s.mu.Unlock()
	s.activity.tcps.Add(1)
	go t.run(p)
}

// run connects and then writes what the host sends.
func (t *tcpSession) run(p proto.TCPConnect) {
	defer t.cancel()
	defer t.in.close()
	ctx, cancel := context.WithTimeout(t.ctx, connectLimit)
	var d net.Dialer
	target := net.JoinHostPort(p.Host, strconv.Itoa(int(p.Port)))
	conn, err := d.DialContext(ctx, "tcp", target)
	cancel()
	if err != nil {
		t.end(proto.TypeTCPFailed, proto.TCPFailed{Error: connectError(p, err)})
		return
	}
	tcp := conn.(*net.TCPConn)
	stop := context.AfterFunc(t.ctx, func() { _ = tcp.Close() })
	defer stop()
	defer func() { _ = tcp.Close() }()
	t.say(proto.TypeTCPConnected, proto.Empty{})
	var wg sync.WaitGroup
	wg.Go(func() { t.receive(tcp) })
	t.transmit(tcp)
	wg.Wait()
}

func connectError(p proto.TCPConnect, err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("connect %s:%d timed out", p.Host, p.Port)
	}
	return fmt.Sprintf("connect %s:%d: %s", p.Host, p.Port, netText(err))
}

// netText is the protocol's text of a network error.
func netText(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return proto.ErrnoText(int(errno))
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return "failed to lookup address information: " + dns.Err
	}
	return err.Error()
}

// transmit passes the host's data on.
func (t *tcpSession) transmit(conn *net.TCPConn) {
	for {
		p, ok := t.in.take()
		if !ok {
			return
		}
		if p == nil {
			if err := conn.CloseWrite(); err != nil {
				t.broken("shutdown TCP stream: ", err)
				return
			}
			t.halfEnded()
			return
		}
		if _, err := conn.Write(p); err != nil {
			t.broken("write TCP stream: ", err)
			return
		}
	}
}

// receive passes the peer's data to the host.
func (t *tcpSession) receive(conn *net.TCPConn) {
	buf := make([]byte, tcpChunk)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			t.s.activity.tcpBytes.Add(uint64(n))
			t.gate.pass(proto.DataMessageSize(proto.TypeTCPData, n))
			t.mu.Lock()
			if !t.ended && !t.gone.Load() {
				_ = t.s.data(t.id, proto.TypeTCPData, buf[:n])
			}
			t.mu.Unlock()
		}
		if errors.Is(err, io.EOF) {
			t.say(proto.TypeTCPEOF, proto.Empty{})
			t.halfEnded()
			return
		}
		if err != nil {
			t.broken("read TCP stream: ", err)
			return
		}
	}
}

// broken ends the session with an error, unless it was ended on purpose.
func (t *tcpSession) broken(step string, err error) {
	t.end(proto.TypeTCPFailed, proto.TCPFailed{Error: step + netText(err)})
}

// halfEnded notes that one direction has ended; both are the end of the session.
func (t *tcpSession) halfEnded() {
	t.mu.Lock()
	t.halves++
	both := t.halves == 2
	t.mu.Unlock()
	if both {
		t.end(proto.TypeTCPClosed, proto.Empty{})
	}
}

// say sends a message unless the session has ended.
func (t *tcpSession) say(typ proto.Type, payload any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended && !t.gone.Load() {
		_ = t.s.send(t.id, typ, payload)
	}
}

// end sends the last message and forgets the session.
func (t *tcpSession) end(typ proto.Type, payload any) {
	s := t.s
	s.mu.Lock()
	if s.tcps[t.id] == t {
		delete(s.tcps, t.id)
		s.activity.tcps.Add(-1)
	}
	s.mu.Unlock()
	t.mu.Lock()
	if !t.ended && !t.gone.Load() {
		_ = s.send(t.id, typ, payload)
	}
	t.ended = true
	t.mu.Unlock()
	t.gate.open()
	t.cancel()
	t.in.close()
}

// abort ends the session without a word.
func (t *tcpSession) abort() {
	t.gone.Store(true)
	t.gate.open()
	t.cancel()
	t.in.close()
}

func (s *Server) tcp(id uint32) *tcpSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tcps[id]
}

func (s *Server) tcpData(m proto.Message) {
	p, ok := s.payloadData(m)
	if !ok {
		return
	}
	t := s.tcp(m.ID)
	if t == nil {
		_ = s.send(m.ID, proto.TypeTCPFailed, proto.TCPFailed{Error: fmt.Sprintf("unknown TCP session: %d", m.ID)})
		return
	}
	if len(p) == 0 {
		return
	}
	s.activity.tcpBytes.Add(uint64(len(p)))
	if err := t.in.put(p); err != nil {
		t.broken("write TCP stream: ", err)
	}
}

func (s *Server) tcpEOF(m proto.Message) {
	var p proto.Empty
	if !s.decode(m, &p) {
		return
	}
	if t := s.tcp(m.ID); t != nil {
		t.in.end()
	}
}

func (s *Server) tcpClose(m proto.Message) {
	var p proto.Empty
	if !s.decode(m, &p) {
		return
	}
	s.mu.Lock()
	t := s.tcps[m.ID]
	if t != nil {
		delete(s.tcps, m.ID)
		s.activity.tcps.Add(-1)
	}
	s.mu.Unlock()
	if t != nil {
		t.abort()
	}
}
