package tls

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"
)

// Config says what is intercepted, and how.
type Config struct {
	Authority *Authority
	Ports     []uint16 // of TCP whose connections are intercepted
	Bypass    []string // patterns of servers whose connections are not
	Trust     Trust
	AllowQUIC bool          // on Ports
	Capacity  int           // certificates to keep; 0 is DefaultCapacity
	Validity  time.Duration // of a certificate; 0 is DefaultValidity
	// Logger receives what of Bypass and Trust is of no use; nil discards it.
	Logger *slog.Logger
}

// Interceptor stands for servers against the guest, and for the guest against servers.
// It is safe for concurrent use.
type Interceptor struct {
	ports     []uint16
	bypass    []Pattern
	allowQUIC bool
	leaves    *leaves
	upstream  *upstream
	guest     *tls.Config
}

// New makes an interceptor. Patterns that ParsePattern refuses are logged and ignored.
func New(cfg Config) (*Interceptor, error) {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l, err := newLeaves(cfg.Authority, cmp.Or(cfg.Capacity, DefaultCapacity), cmp.Or(cfg.Validity, DefaultValidity))
	if err != nil {
		return nil, err
	}
	i := &Interceptor{ports: slices.Clone(cfg.Ports), bypass: parsePatterns(cfg.Bypass, log), allowQUIC: cfg.AllowQUIC, leaves: l, upstream: newUpstream(cfg.Trust, log)}
	i.guest = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: i.certificate}
	return i, nil
}

// Intercepts reports whether connections to a port of TCP are intercepted.
func (i *Interceptor) Intercepts(port uint16) bool { return i != nil && slices.Contains(i.ports, port) }

// BlocksUDP reports whether datagrams to a port are kept back, so that the guest falls back
// from QUIC to what can be intercepted.
func (i *Interceptor) BlocksUDP(port uint16) bool { return i.Intercepts(port) && !i.allowQUIC }

// Bypasses reports whether connections to the server of a canonical name are left alone.
func (i *Interceptor) Bypasses(name string) bool {
	return slices.ContainsFunc(i.bypass, func(p Pattern) bool { return p.Matches(name) })
}

// Guest is how to be the server that the guest wants: the one that it names, or that of the
// connection's local address if it names none. No application protocol is offered, so that
// the guest speaks HTTP/1.1 unless it knows better.
func (i *Interceptor) Guest() *tls.Config { return i.guest }

func (i *Interceptor) certificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.Trim(h.ServerName, "."))
	if name == "" {
		host, _, err := net.SplitHostPort(h.Conn.LocalAddr().String())
		if err != nil {
			return nil, fmt.Errorf("no certificate without a name: %w", err)
		}
		name = host
	}
	return i.leaves.get(name)
}

// Upstream is how to connect to the server of a name or address.
func (i *Interceptor) Upstream(name string) *tls.Config { return i.upstream.config(name) }
