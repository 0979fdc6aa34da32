package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/gomsb/gomsb/netstack/reserve"
)

// Timeout bounds the connection to the proxy and what is agreed with it.
const Timeout = 30 * time.Second

var (
	// ErrConfig is wrapped by every error that a change of the configuration mends.
	ErrConfig = errors.New("invalid outbound proxy")
	// ErrUnreachable is wrapped by every error of a destination that the protocol has no
	// words for: datagrams or IPv6 in version 4.
	ErrUnreachable = errors.New("the proxy cannot lead there")
	// ErrRefused is wrapped by the error for a connection that the proxy did not open.
	ErrRefused = errors.New("the proxy refused")
	// ErrProtocol is wrapped by the error for an answer that makes no sense.
	ErrProtocol = errors.New("not an answer of a SOCKS proxy")
)

// Version is that of the protocol.
type Version byte

// The versions.
const (
	SOCKS4 Version = 4
	SOCKS5 Version = 5 // RFC 1928
)

// maxCredential is the largest length of a user's name or password, in bytes (RFC 1929).
const maxCredential = 255

// Config describes a proxy.
type Config struct {
	Version Version
	Address netip.AddrPort
	// UserID identifies the user in version 4; it may be empty.
	UserID string
	// Username and Password identify the user in version 5 (RFC 1929); both or neither.
	Username, Password string
}

// Validate reports the first thing that makes no sense; the error wraps ErrConfig.
func (c *Config) Validate() error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrConfig, what) }
	long := len(c.UserID) > maxCredential || len(c.Username) > maxCredential || len(c.Password) > maxCredential
	switch {
	case c.Version != SOCKS4 && c.Version != SOCKS5:
		return bad("choose SOCKS4 or SOCKS5")
	case !c.Address.IsValid() || c.Address.Port() == 0:
		return bad("its address is IP:PORT, with a port from 1 to 65535")
	case c.Version == SOCKS5 && c.UserID != "" || c.Version == SOCKS4 && (c.Username != "" || c.Password != ""):
		return bad("a user ID is for SOCKS4, a user name and password for SOCKS5")
	case (c.Username == "") != (c.Password == ""):
		return bad("a user name and a password go together")
	case long:
		return bad("a user ID, user name or password has at most 255 bytes")
	}
	for i := range len(c.UserID) {
		if c.UserID[i] == 0 {
			return bad("a zero byte in the user ID")
		}
	}
	return nil
}

// Proxy is a proxy that connections go through. It is safe for concurrent use.
type Proxy struct{ cfg Config }

// New makes the proxy that cfg describes; nothing is sent yet. The error wraps ErrConfig.
func New(cfg Config) (*Proxy, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Proxy{cfg}, nil
}

// Datagrams reports whether the proxy's protocol carries them.
func (p *Proxy) Datagrams() bool { return p.cfg.Version == SOCKS5 }

// DialContext opens a connection to a literal address through the proxy: network is tcp or
// udp, perhaps with 4 or 6 behind it. It fails with ErrUnreachable, ErrRefused or
// ErrProtocol, or as net.Dialer does for the proxy itself.
func (p *Proxy) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is no literal address", ErrUnreachable, address)
	}
	to = netip.AddrPortFrom(to.Addr().Unmap().WithZone(""), to.Port())
	datagrams := len(network) >= 3 && network[:3] == "udp"
	if p.cfg.Version == SOCKS4 && (datagrams || !to.Addr().Is4()) {
		return nil, fmt.Errorf("%w: SOCKS4 knows TCP over IPv4 alone", ErrUnreachable)
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	control, err := (&net.Dialer{Control: reserve.Socket}).DialContext(ctx, "tcp", p.cfg.Address.String())
	if err != nil {
		return nil, err
	}
	c, err := p.agree(ctx, control, datagrams, to)
	if err != nil {
		_ = control.Close()
		return nil, err
	}
	return c, nil
}

// agree has the proxy lead a fresh connection to it to the destination.
func (p *Proxy) agree(ctx context.Context, control net.Conn, datagrams bool, to netip.AddrPort) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = control.SetDeadline(time.Unix(1, 0)) })
	relay, err := p.handshake(control, datagrams, to)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	if !datagrams {
		return control, nil
	}
	return p.associate(control, relay, to)
}

// handshake asks for a connection, or for a relay of datagrams, whose address it returns.
func (p *Proxy) handshake(control net.Conn, datagrams bool, to netip.AddrPort) (netip.AddrPort, error) {
	switch {
	case p.cfg.Version == SOCKS4:
		return netip.AddrPort{}, connect4(control, to, p.cfg.UserID)
	case datagrams:
		return request5(control, &p.cfg, commandAssociate, netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
	default:
		return request5(control, &p.cfg, commandConnect, to)
	}
}
