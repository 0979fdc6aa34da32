package tls

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newAuthority(t testing.TB) *Authority {
	t.Helper()
	a, err := PersistedAuthority(t.Context(), t.TempDir())
	require.NoError(t, err)
	return a
}

func TestPersistedAuthority(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	first, err := PersistedAuthority(t.Context(), dir)
	require.NoError(t, err)
	for name, mode := range map[string]os.FileMode{certName: 0o644, keyName: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, mode, info.Mode(), name)
	}
	c := first.cert
	assert.Equal(t, "CN=microsandbox CA,O=microsandbox", c.Subject.String())
	assert.True(t, c.IsCA && c.BasicConstraintsValid)
	assert.Equal(t, -1, c.MaxPathLen, "unconstrained")
	assert.Equal(t, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, c.KeyUsage)
	assert.True(t, c.NotAfter.After(time.Now().AddDate(1000, 0, 0)))
	assert.IsType(t, &ecdsa.PrivateKey{}, first.key)
	text, err := os.ReadFile(filepath.Join(dir, certName))
	require.NoError(t, err)
	assert.Equal(t, string(text), string(first.PEM()))
	assert.NotContains(t, string(first.PEM()), "KEY")

	again, err := PersistedAuthority(t.Context(), dir)
	require.NoError(t, err)
	assert.Equal(t, first.cert.Raw, again.cert.Raw)
}

// TestPersistedAuthorityAtOnce: several sandboxes start at the same time on a new host.
func TestPersistedAuthorityAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var made [8]*Authority
	var wg sync.WaitGroup
	for i := range made {
		wg.Go(func() {
			var err error
			made[i], err = PersistedAuthority(t.Context(), dir)
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	for _, a := range made {
		require.NotNil(t, a)
		assert.Equal(t, made[0].cert.Raw, a.cert.Raw)
	}
}

func TestPersistedAuthorityWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unlock, err := lock(t.Context(), filepath.Join(dir, lockName))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = PersistedAuthority(ctx, dir)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	unlock()
	_, err = PersistedAuthority(t.Context(), dir)
	assert.NoError(t, err)
}

func TestHalfAPair(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, certName), filepath.Join(dir, keyName)
	first, err := PersistedAuthority(t.Context(), dir)
	require.NoError(t, err)

	require.NoError(t, os.Remove(key))
	_, err = PersistedAuthority(t.Context(), dir)
	require.ErrorIs(t, err, ErrAuthority)
	assert.ErrorContains(t, err, keyName)

	require.NoError(t, os.Remove(cert))
	require.NoError(t, os.WriteFile(key, []byte("half"), 0o644)) // a crash before the certificate was written
	second, err := PersistedAuthority(t.Context(), dir)
	require.NoError(t, err)
	assert.NotEqual(t, first.cert.Raw, second.cert.Raw)
	info, err := os.Stat(key)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode())
}

func TestLoadAuthorityRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
		return filepath.Join(dir, name)
	}
	cert, key, err := generate()
	require.NoError(t, err)
	_, otherKey, err := generate()
	require.NoError(t, err)
	signed := func(change func(*x509.Certificate)) []byte {
		pair, err := tls.X509KeyPair(cert, key)
		require.NoError(t, err)
		c := &x509.Certificate{
			Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
		change(c)
		k := pair.PrivateKey.(*ecdsa.PrivateKey)
		der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
		require.NoError(t, err)
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	keyFile := write("key", key)
	_, err = LoadAuthority(write("cert", signed(func(*x509.Certificate) {})), keyFile)
	require.NoError(t, err)
	for name, c := range map[string]struct{ cert, key, text string }{
		"no certificate":   {filepath.Join(dir, "none"), keyFile, "no such file"},
		"no key":           {write("good", cert), filepath.Join(dir, "none"), "no such file"},
		"another key":      {write("good", cert), write("other", otherKey), "match"},
		"no PEM":           {write("junk", []byte("junk")), keyFile, "junk"},
		"a server's":       {write("server", signed(func(c *x509.Certificate) { c.IsCA = false })), keyFile, "basic constraint"},
		"not for signing":  {write("usage", signed(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })), keyFile, "signing"},
		"expired long ago": {write("old", signed(func(c *x509.Certificate) { c.NotAfter = time.Unix(1e9, 0) })), keyFile, "expired on 2001-09-09"},
	} {
		_, err := LoadAuthority(c.cert, c.key)
		assert.ErrorIs(t, err, ErrAuthority, name)
		assert.ErrorContains(t, err, c.text, name)
	}
}

func TestLeaf(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	l, err := newLeaves(a, 10, DefaultValidity)
	require.NoError(t, err)
	now := time.Now().Truncate(time.Second)
	l.now = func() time.Time { return now }
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	long := strings.Repeat(strings.Repeat("a", 40)+".", 3) + "example"
	for _, name := range []string{"www.example.com", "_x.example.com", "1.1.1.1", "2606:4700:4700::1111", long} {
		c, err := l.get(name)
		require.NoError(t, err, name)
		require.Len(t, c.Certificate, 2)
		assert.Equal(t, a.cert.Raw, c.Certificate[1])
		leaf := c.Leaf
		if name != long {
			assert.Equal(t, name, leaf.Subject.CommonName)
		}
		assert.False(t, leaf.IsCA)
		assert.Equal(t, a.cert.SubjectKeyId, leaf.AuthorityKeyId)
		assert.Equal(t, x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment, leaf.KeyUsage)
		assert.Equal(t, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, leaf.ExtKeyUsage)
		assert.Equal(t, now.Add(-2*time.Second).UTC(), leaf.NotBefore)
		assert.Equal(t, now.Add(24*time.Hour).UTC(), leaf.NotAfter)
		if net.ParseIP(name) != nil || name[0] != '_' { // an underscore is no host name for crypto/x509's check of patterns
			_, err = leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: now})
			assert.NoError(t, err, name)
		}
	}
	one, err := l.get("www.example.com")
	require.NoError(t, err)
	other, err := l.get("1.1.1.1")
	require.NoError(t, err)
	assert.Equal(t, one.PrivateKey, other.PrivateKey)
	assert.NotEqual(t, one.Leaf.SerialNumber, other.Leaf.SerialNumber)
}

func TestLeafIsMadeAgain(t *testing.T) {
	t.Parallel()
	l, err := newLeaves(newAuthority(t), 10, DefaultValidity)
	require.NoError(t, err)
	now := time.Now()
	l.now = func() time.Time { return now }
	first, err := l.get("a.example")
	require.NoError(t, err)
	now = now.Add(24*time.Hour - 6*time.Minute)
	again, err := l.get("a.example")
	require.NoError(t, err)
	assert.Same(t, first, again)
	now = now.Add(2 * time.Minute)
	fresh, err := l.get("a.example")
	require.NoError(t, err)
	assert.NotSame(t, first, fresh)
	assert.Len(t, l.kept, 1)
	assert.Equal(t, 1, l.byUse.Len())
}

func TestLeavesAreBounded(t *testing.T) {
	t.Parallel()
	l, err := newLeaves(newAuthority(t), 2, DefaultValidity)
	require.NoError(t, err)
	get := func(name string) *tls.Certificate {
		c, err := l.get(name)
		require.NoError(t, err)
		return c
	}
	a := get("a.example")
	b := get("b.example")
	assert.Same(t, a, get("a.example"))
	get("c.example") // in the place of b, which was not used for longest
	assert.Same(t, a, get("a.example"))
	assert.Len(t, l.kept, 2)
	assert.NotSame(t, b, get("b.example"))
}

// TestBadNames fail by themselves, and leave the certificates that there are.
func TestBadNames(t *testing.T) {
	t.Parallel()
	l, err := newLeaves(newAuthority(t), 10, DefaultValidity)
	require.NoError(t, err)
	good, err := l.get("good.example")
	require.NoError(t, err)
	for _, name := range []string{"", "bücher.example", "a b", "*.example", "x\x00.example", strings.Repeat("a", 64) + ".example", "UPPER.example", "a.", "fe80::1%eth0"} {
		_, err := l.get(name)
		assert.Error(t, err, "%q", name)
	}
	again, err := l.get("good.example")
	require.NoError(t, err)
	assert.Same(t, good, again)
	assert.Len(t, l.kept, 1)
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	for pattern, names := range map[string]map[string]bool{
		"API.Example.com":   {"api.example.com": true, "x.api.example.com": false, "example.com": false, "xapi.example.com": false},
		"*.Example.com.":    {"example.com": true, "a.example.com": true, "b.a.example.com": true, "evilexample.com": false, "com": false},
		"*.gov":             {"gov": true, "irs.gov": true, "gov.uk": false},
		"host_a.internal":   {"host_a.internal": true},
		"*.xn--bcher-kva.x": {"www.xn--bcher-kva.x": true},
	} {
		p, err := ParsePattern(pattern)
		require.NoError(t, err, pattern)
		for name, want := range names {
			assert.Equal(t, want, p.Matches(name), "%s, %s", pattern, name)
		}
		same, err := ParsePattern(p.String())
		require.NoError(t, err)
		assert.Equal(t, p, same)
	}
	for _, bad := range []string{"", "*", "*.", "a.*.b", "https://a.b", "a b", "a.b:443", "**.a"} {
		_, err := ParsePattern(bad)
		assert.ErrorIs(t, err, ErrPattern, bad)
	}
}

// TestPatternsThatMatchNothing are in configurations of microsandbox's, which it takes.
func TestPatternsThatMatchNothing(t *testing.T) {
	t.Parallel()
	no := false
	for _, bad := range []string{"", "*", "*.", "a.*.b", "https://a.b", "a b", "a.b:443", "**.a"} {
		var log bytes.Buffer
		i, err := New(Config{
			Authority: newAuthority(t), Logger: slog.New(slog.NewTextHandler(&log, nil)), Bypass: []string{bad, "bank.example"},
			Trust: Trust{Scoped: []ScopedTrust{{Pattern: bad, Verify: &no}, {Pattern: "lax.example", Verify: &no}}},
		})
		require.NoError(t, err, bad)
		for _, name := range []string{"a.b", "a", "b", "www.example.com"} {
			assert.False(t, i.Bypasses(name), "%q, %s", bad, name)
			assert.False(t, i.Upstream(name).InsecureSkipVerify, "%q, %s", bad, name)
		}
		assert.True(t, i.Bypasses("bank.example"), "the others count")
		assert.True(t, i.Upstream("lax.example").InsecureSkipVerify, "the others count")
		assert.Equal(t, 2, strings.Count(log.String(), "is ignored"), log.String())
	}
}

// site makes a certificate of a new authority's for a name, and the PEM text of the
// authority.
func site(t *testing.T, name string) (*tls.Certificate, []byte) {
	t.Helper()
	a := newAuthority(t)
	l, err := newLeaves(a, 1, time.Hour)
	require.NoError(t, err)
	c, err := l.get(name)
	require.NoError(t, err)
	return c, a.PEM()
}

// accepts reports whether a client with a configuration accepts a server with a
// certificate.
func accepts(t *testing.T, c *tls.Config, cert *tls.Certificate) bool {
	t.Helper()
	client, server := net.Pipe()
	defer func() { _ = client.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = server.Close() }()
		_ = tls.Server(server, &tls.Config{Certificates: []tls.Certificate{*cert}}).HandshakeContext(t.Context())
	}()
	err := tls.Client(client, c).HandshakeContext(t.Context())
	_ = client.Close()
	<-done
	return err == nil
}

func TestTrust(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
		return filepath.Join(dir, name)
	}
	yes, no := true, false
	global, globalCA := site(t, "a.example")
	scoped, scopedCA := site(t, "b.corp.example")
	narrow, narrowCA := site(t, "deep.b.corp.example")
	other, _ := site(t, "c.example")
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("key")})
	var log bytes.Buffer
	i, err := New(Config{
		Authority: newAuthority(t), Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Trust: Trust{
			Files: []string{write("global", append(append([]byte("Subject: x\n"), key...), globalCA...)), filepath.Join(dir, "missing"), write("empty", key)},
			Scoped: []ScopedTrust{
				{Pattern: "*.Corp.example", File: write("scoped", scopedCA)},
				{Pattern: "*.b.corp.example.", File: write("narrow", narrowCA)},
				{Pattern: "*.insecure.example", Verify: &no},
				{Pattern: "but.insecure.example", Verify: &yes},
				{Pattern: "*.both.example", Verify: &no},
				{Pattern: "*.BOTH.example", Verify: &yes}, // the last word counts
			},
		},
	})
	require.NoError(t, err)
	assert.Contains(t, log.String(), "missing")
	assert.Contains(t, log.String(), "empty")
	assert.NotContains(t, log.String(), "narrow")
	for _, c := range []struct {
		name string
		cert *tls.Certificate
		want bool
	}{
		{"a.example", global, true},
		{"b.corp.example", global, false}, // another name
		{"b.corp.example", scoped, false}, // *.b.corp.example is more specific than *.corp.example
		{"deep.b.corp.example", narrow, true},
		{"c.example", other, false},
		{"b.example", scoped, false},
		{"x.insecure.example", other, true},
		{"but.insecure.example", other, false},
		{"x.both.example", other, false},
	} {
		assert.Equal(t, c.want, accepts(t, i.Upstream(c.name), c.cert), "%s with the certificate of %s", c.name, c.cert.Leaf.Subject)
	}
	at := i.Upstream("deep.b.corp.example")
	assert.Equal(t, "deep.b.corp.example", at.ServerName)
	assert.Nil(t, at.NextProtos)
	assert.Empty(t, at.Certificates)

	scopedElsewhere, elsewhereCA := site(t, "x.corp.example")
	i, err = New(Config{Authority: newAuthority(t), Trust: Trust{Scoped: []ScopedTrust{{Pattern: "*.corp.example", File: write("elsewhere", elsewhereCA)}}}})
	require.NoError(t, err)
	assert.True(t, accepts(t, i.Upstream("x.corp.example"), scopedElsewhere))
	assert.False(t, accepts(t, i.Upstream("x.corp.example.net"), scopedElsewhere))

	i, err = New(Config{Authority: newAuthority(t), Trust: Trust{NoVerify: true, Scoped: []ScopedTrust{
		{Pattern: "strict.example", Verify: &yes}, {Pattern: "inherits.example", File: write("elsewhere", elsewhereCA)},
	}}})
	require.NoError(t, err)
	assert.True(t, accepts(t, i.Upstream("c.example"), other))
	assert.True(t, accepts(t, i.Upstream("inherits.example"), other))
	assert.False(t, accepts(t, i.Upstream("strict.example"), other))
}

func TestInterceptor(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	i, err := New(Config{Authority: a, Ports: []uint16{443, 8443}, Bypass: []string{"*.bank.example", "exact.example"}})
	require.NoError(t, err)
	var none *Interceptor
	assert.False(t, none.Intercepts(443))
	assert.False(t, none.BlocksUDP(443))
	for port, want := range map[uint16]bool{443: true, 8443: true, 80: false, 853: false} {
		assert.Equal(t, want, i.Intercepts(port))
		assert.Equal(t, want, i.BlocksUDP(port))
	}
	for name, want := range map[string]bool{"bank.example": true, "www.bank.example": true, "exact.example": true, "www.exact.example": false} {
		assert.Equal(t, want, i.Bypasses(name), name)
	}
	quic, err := New(Config{Authority: a, Ports: []uint16{443}, AllowQUIC: true})
	require.NoError(t, err)
	assert.True(t, quic.Intercepts(443))
	assert.False(t, quic.BlocksUDP(443))
}

// TestGuestSide: a guest that trusts the authority accepts what it meets, whatever it
// asks for, by TLS 1.2 and 1.3.
func TestGuestSide(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	i, err := New(Config{Authority: a})
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(a.PEM()))
	meet := func(c *tls.Config) (tls.ConnectionState, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s, err := l.Accept()
			if assert.NoError(t, err) {
				_ = tls.Server(s, i.Guest()).HandshakeContext(t.Context())
				_ = s.Close()
			}
		}()
		s, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		client := tls.Client(s, c)
		err = client.HandshakeContext(t.Context())
		_ = s.Close()
		<-done
		_ = l.Close()
		return client.ConnectionState(), err
	}
	for _, c := range []*tls.Config{
		{ServerName: "www.example.com"}, {ServerName: "WWW.Example.com", MaxVersion: tls.VersionTLS12}, {ServerName: "127.0.0.1"},
	} {
		c.RootCAs, c.NextProtos = roots, []string{"h2", "http/1.1"}
		s, err := meet(c)
		require.NoError(t, err, c.ServerName)
		assert.Empty(t, s.NegotiatedProtocol)
		assert.NoError(t, s.PeerCertificates[0].VerifyHostname(c.ServerName))
	}
	_, err = meet(&tls.Config{ServerName: "www.example.com", MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10, RootCAs: roots})
	assert.Error(t, err)
	_, err = meet(&tls.Config{ServerName: "no label!.example", InsecureSkipVerify: true})
	assert.Error(t, err)
	_, err = meet(&tls.Config{ServerName: "www.example.com", RootCAs: roots})
	assert.NoError(t, err)
}

func FuzzParsePattern(f *testing.F) {
	for _, s := range []string{"example.com", "*.example.com", "*", "", "*.*.x", "A.B."} {
		f.Add(s, "www.example.com")
	}
	f.Fuzz(func(t *testing.T, s, name string) {
		p, err := ParsePattern(s)
		if err != nil {
			assert.ErrorIs(t, err, ErrPattern)
			return
		}
		same, err := ParsePattern(p.String())
		require.NoError(t, err)
		assert.Equal(t, p, same)
		if p.Matches(name) {
			assert.True(t, strings.HasSuffix(name, p.name))
		}
	})
}

// FuzzParseAuthority: whatever is in the files, an authority can sign or is refused.
func FuzzParseAuthority(f *testing.F) {
	cert, key, err := generate()
	require.NoError(f, err)
	f.Add(cert, key)
	f.Add(key, cert)
	f.Add(append(key, cert...), key)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"), key)
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(f, err)
	der, err := x509.MarshalECPrivateKey(k)
	require.NoError(f, err)
	own, err := selfSign(k)
	require.NoError(f, err)
	f.Add(own, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		_ = parseBundle(cert)
		a, err := parseAuthority(cert, key)
		if err != nil {
			return
		}
		l, err := newLeaves(a, 1, time.Hour)
		require.NoError(t, err)
		_, err = l.get("a.example")
		assert.NoError(t, err)
	})
}
