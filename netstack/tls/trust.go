package tls

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
)

// Trust says by whom upstream servers may be certified: by whoever the host trusts, and
// more.
type Trust struct {
	// Files hold certificates of authorities in PEM. What cannot be read is logged.
	Files []string
	// NoVerify accepts any certificate.
	NoVerify bool
	// Scoped adds to this for some servers. The most specific patterns that match count;
	// those of equal ones are put together.
	Scoped []ScopedTrust
}

// ScopedTrust is trust in the servers that Pattern stands for.
type ScopedTrust struct {
	Pattern string
	File    string // "" for none
	Verify  *bool  // nil: as for others
}

// scope is the trust in some servers.
type scope struct {
	pattern Pattern
	config  func() *tls.Config
}

// upstream is the trust in all servers.
type upstream struct {
	scopes []scope // most specific first
	others func() *tls.Config
}

// newUpstream reads the patterns and the files. Pools are made when they are first
// needed: the host's alone has more than a hundred certificates.
func newUpstream(t Trust, log *slog.Logger) *upstream {
	read := sync.OnceValue(systemPool)
	global := authorities(t.Files, log)
	u := &upstream{others: lazily(read, global, t.NoVerify)}
	files, verify := make(map[Pattern][]string), make(map[Pattern]bool)
	patterns := make(map[Pattern]bool)
	for _, s := range t.Scoped {
		p, ok := usable(s.Pattern, log)
		if !ok {
			continue
		}
		patterns[p] = true
		if s.File != "" {
			files[p] = append(files[p], s.File)
		}
		if s.Verify != nil {
			verify[p] = *s.Verify
		}
	}
	for p := range maps.Keys(patterns) {
		noVerify := t.NoVerify
		if v, said := verify[p]; said {
			noVerify = !v
		}
		u.scopes = append(u.scopes, scope{p, lazily(read, slices.Concat(global, authorities(files[p], log)), noVerify)})
	}
	slices.SortFunc(u.scopes, func(a, b scope) int { return b.pattern.weight() - a.pattern.weight() })
	return u
}

// config is how to connect to the server of a name or address.
func (u *upstream) config(name string) *tls.Config {
	of := u.others
	if i := slices.IndexFunc(u.scopes, func(s scope) bool { return s.pattern.Matches(name) }); i >= 0 {
		of = u.scopes[i].config
	}
	c := of().Clone()
	c.ServerName = name
	return c
}

// lazily makes a configuration once.
func lazily(system func() *x509.CertPool, more []*x509.Certificate, noVerify bool) func() *tls.Config {
	return sync.OnceValue(func() *tls.Config {
		c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: noVerify}
		if !noVerify {
			c.RootCAs = system().Clone()
			for _, a := range more {
				c.RootCAs.AddCert(a)
			}
		}
		return c
	})
}

// systemPool is whom the host trusts; nobody if that cannot be found out.
func systemPool() *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err != nil {
		return x509.NewCertPool()
	}
	return pool
}

// authorities reads the certificates in files.
func authorities(files []string, log *slog.Logger) (list []*x509.Certificate) {
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			log.Error("certificates of upstream servers' authorities cannot be read and are ignored", "file", name, "error", err)
			continue
		}
		found := parseBundle(text)
		if len(found) == 0 {
			log.Error("there is no certificate of an upstream server's authority in the file", "file", name)
		}
		list = append(list, found...)
	}
	return list
}

// parseBundle is the certificates in a PEM text, whatever else is in it.
func parseBundle(text []byte) (list []*x509.Certificate) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return list
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			list = append(list, c)
		}
	}
}
