package proxytest

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
)

// Server is a proxy on this machine's loopback.
type Server struct {
	// Username and Password are required of those who use version 5, if set.
	Username, Password string
	// Lead is where a destination is found, such as "tcp 1.2.3.4:80"; false refuses.
	Lead func(destination string) (address string, ok bool)

	listener net.Listener
	mu       sync.Mutex
	asked    []string // protected by mu, as all below
	open     map[io.Closer]bool
	closed   bool
	wg       sync.WaitGroup
}

// Start has the proxy listen on a free port of 127.0.0.1.
func (s *Server) Start() (err error) {
	s.open = make(map[io.Closer]bool)
	if s.listener, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		return err
	}
	s.wg.Go(func() {
		for {
			c, err := s.listener.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.serve(c) })
		}
	})
	return nil
}

// Addr is where the proxy listens.
func (s *Server) Addr() netip.AddrPort { return s.listener.Addr().(*net.TCPAddr).AddrPort() }

// Asked lists what was asked for, in order: network and address, and in version 4 the
// user ID if there was one.
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// Close ends all.
func (s *Server) Close() {
	_ = s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.open {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// hold has c closed with the server; the caller calls the result when it is done with c.
func (s *Server) hold(c io.Closer) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = true
	if s.closed {
		_ = c.Close()
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, c)
		_ = c.Close()
	}
}

func (s *Server) find(destination string) (string, bool) {
	s.mu.Lock()
	s.asked = append(s.asked, destination)
	s.mu.Unlock()
	return s.Lead(destination)
}

var errWrong = errors.New("not SOCKS")

func (s *Server) serve(c net.Conn) {
	defer s.hold(c)()
	var version [1]byte
	if _, err := io.ReadFull(c, version[:]); err != nil {
		return
	}
	switch version[0] {
	case 4:
		_ = s.serve4(c)
	case 5:
		_ = s.serve5(c)
	}
}

func (s *Server) serve4(c net.Conn) error {
	var b [7]byte
	if _, err := io.ReadFull(c, b[:]); err != nil || b[0] != 1 {
		return errWrong
	}
	user := ""
	for {
		var one [1]byte
		if _, err := io.ReadFull(c, one[:]); err != nil {
			return err
		}
		if one[0] == 0 {
			break
		}
		user += string(one[:])
	}
	to := "tcp " + netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[3:])), binary.BigEndian.Uint16(b[1:])).String()
	if user != "" {
		to += " " + user
	}
	reply := [8]byte{1: 91}
	if at, ok := s.find(to); ok {
		reply[1] = 90
		return s.join(c, at, reply[:], reply[:])
	}
	_, err := c.Write(reply[:])
	return err
}

func (s *Server) serve5(c net.Conn) error {
	if err := s.identify(c); err != nil {
		return err
	}
	var head [3]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	to, err := readAddress(c)
	if err != nil {
		return err
	}
	reply := func(code byte) []byte { return []byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0} }
	switch head[1] {
	case 1:
		at, ok := s.find("tcp " + to)
		if !ok {
			_, err := c.Write(reply(2))
			return err
		}
		return s.join(c, at, reply(0), reply(5))
	case 3:
		return s.relay(c)
	}
	_, err = c.Write(reply(7))
	return err
}

func (s *Server) identify(c net.Conn) error {
	methods, err := readString(c)
	if err != nil {
		return err
	}
	want := byte(0)
	if s.Username != "" {
		want = 2
	}
	if !slices.Contains([]byte(methods), want) {
		_, err := c.Write([]byte{5, 0xff})
		return errors.Join(err, errWrong)
	}
	if _, err := c.Write([]byte{5, want}); err != nil || want == 0 {
		return err
	}
	var version [1]byte
	if _, err := io.ReadFull(c, version[:]); err != nil {
		return err
	}
	user, err1 := readString(c)
	password, err2 := readString(c)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if user != s.Username || password != s.Password {
		_, err := c.Write([]byte{1, 1})
		return errors.Join(err, errWrong)
	}
	_, err = c.Write([]byte{1, 0})
	return err
}

// join leads a connection to an address after one of two replies.
func (s *Server) join(c net.Conn, at string, success, failure []byte) error {
	far, err := net.Dial("tcp", at)
	if err != nil {
		_, err := c.Write(failure)
		return err
	}
	defer s.hold(far)()
	if _, err := c.Write(success); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(far, c)
		_ = far.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(c, far)
	_ = c.(*net.TCPConn).CloseWrite()
	<-done
	return err
}

// relay carries datagrams until the connection ends: those from the first sender to where
// each says, and what comes from there back.
func (s *Server) relay(c net.Conn) error {
	u, err := net.ListenUDP("udp", nil) // of both families, if there are both
	if err != nil {
		return err
	}
	done := s.hold(u)
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.serveRelay(u)
	}()
	port := u.LocalAddr().(*net.UDPAddr).Port
	reply := binary.BigEndian.AppendUint16([]byte{5, 0, 0, 1, 0, 0, 0, 0}, uint16(port)) // unspecified: where the proxy is
	if _, err = c.Write(reply); err == nil {
		_, err = io.Copy(io.Discard, c)
	}
	done()
	<-served
	return err
}

func (s *Server) serveRelay(u *net.UDPConn) {
	var client netip.AddrPort
	heads := map[netip.AddrPort][]byte{} // of the datagrams to where each sender is known
	b := make([]byte, 1<<16)
	for {
		n, from, err := u.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if head, known := heads[from]; known {
			_, _ = u.WriteToUDPAddrPort(append(slices.Clone(head), b[:n]...), client)
			continue
		}
		size := map[byte]int{1: 10, 4: 22}[b[3]]
		if n < 4 || size == 0 || n < size {
			continue
		}
		client = from
		a, _ := netip.AddrFromSlice(b[4 : size-2])
		at, ok := s.find("udp " + netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[size-2:])).String())
		if !ok {
			continue
		}
		to, err := netip.ParseAddrPort(at)
		if err != nil {
			continue
		}
		heads[to] = slices.Clone(b[:size])
		_, _ = u.WriteToUDPAddrPort(b[size:n], to)
	}
}

// readString reads a string behind the byte of its length.
func readString(r io.Reader) (string, error) {
	var n [1]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return "", err
	}
	b := make([]byte, n[0])
	_, err := io.ReadFull(r, b)
	return string(b), err
}

// readAddress reads the kind of an address, it and its port.
func readAddress(r io.Reader) (string, error) {
	var kind [1]byte
	if _, err := io.ReadFull(r, kind[:]); err != nil {
		return "", err
	}
	size := map[byte]int{1: 4, 4: 16}[kind[0]]
	host := ""
	if kind[0] == 3 {
		name, err := readString(r)
		if err != nil {
			return "", err
		}
		host = name
	}
	b := make([]byte, size+2)
	if _, err := io.ReadFull(r, b); err != nil {
		return "", err
	}
	if a, ok := netip.AddrFromSlice(b[:size]); ok {
		host = a.String()
	}
	if host == "" {
		return "", errWrong
	}
	return net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(b[size:])))), nil
}
