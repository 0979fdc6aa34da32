package tls

import (
	"container/list"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/gomsb/gomsb/netstack/policy"
)

const (
	// DefaultCapacity is how many certificates are kept, DefaultValidity how long each is
	// valid.
	DefaultCapacity = 1000
	DefaultValidity = 24 * time.Hour

	// skew is how much slower than the host's a guest's clock may be.
	skew = 2 * time.Second
	// margin is how long a certificate that is handed out is still valid, at least.
	margin = 5 * time.Minute
	// maxCommonName is the longest name that a subject may have (RFC 5280 appendix A.1).
	maxCommonName = 64
)

// leaves makes certificates of an authority's for servers, and keeps those used last. All
// have the same key, which no other process has. It is safe for concurrent use.
type leaves struct {
	authority *Authority
	key       *ecdsa.PrivateKey
	capacity  int
	validity  time.Duration
	now       func() time.Time

	mu    sync.Mutex
	byUse *list.List               // of *tls.Certificate, latest first; protected by mu
	kept  map[string]*list.Element // by name; protected by mu
}

func newLeaves(a *Authority, capacity int, validity time.Duration) (*leaves, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return &leaves{
		authority: a, key: key, capacity: capacity, validity: validity, now: time.Now,
		byUse: list.New(), kept: make(map[string]*list.Element),
	}, nil
}

// entry is a certificate and the name that it is for.
type entry struct {
	name string
	cert *tls.Certificate
}

// get is a certificate for a server, whose name is canonical or an address.
func (l *leaves) get(name string) (*tls.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if e := l.kept[name]; e != nil {
		if c := e.Value.(entry).cert; now.Add(min(margin, l.validity/2)).Before(c.Leaf.NotAfter) {
			l.byUse.MoveToFront(e)
			return c, nil
		}
		l.forget(e)
	}
	c, err := l.sign(name, now)
	if err != nil {
		return nil, err
	}
	if l.byUse.Len() >= l.capacity {
		l.forget(l.byUse.Back())
	}
	l.kept[name] = l.byUse.PushFront(entry{name, c})
	return c, nil
}

// forget drops a certificate; mu is held.
func (l *leaves) forget(e *list.Element) { delete(l.kept, l.byUse.Remove(e).(entry).name) }

// sign makes a certificate that is valid from just before now.
func (l *leaves) sign(name string, now time.Time) (*tls.Certificate, error) {
	template := &x509.Certificate{
		NotBefore: now.Add(-skew), NotAfter: now.Add(l.validity),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else if canonical, err := policy.Canonical(name); err != nil || canonical != name {
		return nil, fmt.Errorf("no certificate can be made for %q, which is no host name", name)
	} else {
		template.DNSNames = []string{name}
	}
	if len(name) <= maxCommonName {
		template.Subject = pkix.Name{CommonName: name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, l.authority.cert, l.key.Public(), l.authority.key)
	if err != nil {
		return nil, fmt.Errorf("certificate for %q: %w", name, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate for %q: %w", name, err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, l.authority.cert.Raw}, PrivateKey: l.key, Leaf: leaf}, nil
}
