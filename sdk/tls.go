package microsandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/netstack/tls"
)

// TLSConfig has the guest's TLS connections to some ports intercepted: the guest meets
// certificates of an authority of this machine's, which it trusts, and what it sends can be
// looked into and changed. Patterns are names, or *.DOMAIN for a domain and all below it.
type TLSConfig struct {
	// Bypass are servers whose connections are left alone, for clients that accept certain
	// certificates only. The policy still applies.
	Bypass []string
	// VerifyUpstream refuses servers whose certificates this machine does not trust; nil is
	// true.
	VerifyUpstream *bool
	// InterceptedPorts are ports of TCP; none is 443. Connections to them that are not TLS,
	// or do not name their server, are closed.
	InterceptedPorts []uint16
	// BlockQUIC keeps datagrams to those ports back, so that the guest uses TCP; nil is
	// true.
	BlockQUIC *bool
	// CACert and CAKey are files of the authority's certificate and key in PEM, both or
	// neither. With neither it is an authority that is made once for this machine.
	CACert, CAKey string
	// UpstreamCACerts are files with authorities that servers may have certificates of, in
	// PEM, besides those that this machine trusts.
	UpstreamCACerts []string
	// ScopedUpstreamCACerts is UpstreamCACerts for some servers, ScopedVerifyUpstream is
	// VerifyUpstream. The most specific pattern that matches counts.
	ScopedUpstreamCACerts []ScopedUpstreamCACert
	ScopedVerifyUpstream  []ScopedVerifyUpstream

	cache *launch.TLSCache // of a row that bounds the cache of certificates; nil: the default
}

// ScopedUpstreamCACert is a file of authorities for the servers of a pattern.
type ScopedUpstreamCACert struct{ Pattern, Path string }

// ScopedVerifyUpstream says whether certificates of the servers of a pattern are verified.
type ScopedVerifyUpstream struct {
	Pattern string
	Verify  bool
}

// launch is the runtime's form of the configuration, nil if c is. Its files have absolute
// names. It fails with ErrInvalidConfig.
func (c *TLSConfig) launch() (*launch.TLSConfig, error) {
	if c == nil {
		return nil, nil
	}
	t := launch.DefaultNetworkConfig().TLS
	t.Enabled = true
	t.VerifyUpstream = c.VerifyUpstream == nil || *c.VerifyUpstream
	t.BlockQUICOnIntercept = c.BlockQUIC == nil || *c.BlockQUIC
	t.Bypass = append(t.Bypass, c.Bypass...)
	if len(c.InterceptedPorts) > 0 {
		t.InterceptedPorts = slices.Clone(c.InterceptedPorts)
	}
	if c.cache != nil {
		t.Cache = *c.cache
	}
	if slices.Contains(t.InterceptedPorts, 0) {
		return nil, fail(ErrInvalidConfig, "port 0 cannot be intercepted: choose 1 to 65535")
	}
	err := errors.Join(c.authority(&t), c.trust(&t), c.patterns())
	return &t, wrap(ErrInvalidConfig, err)
}

// authority fills in the authority of interception, which must be one.
func (c *TLSConfig) authority(t *launch.TLSConfig) error {
	if c.CACert == "" && c.CAKey == "" {
		return nil
	}
	if c.CACert == "" || c.CAKey == "" {
		return errors.New("intercept CA config is incomplete; set both cert_path and key_path")
	}
	cert, err := filepath.Abs(c.CACert)
	key, err2 := filepath.Abs(c.CAKey)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	t.InterceptCA = launch.InterceptCA{CertPath: &cert, KeyPath: &key}
	_, err = tls.LoadAuthority(cert, key)
	return err
}

// trust fills in whom servers may be certified by. The files must be there: a runtime goes
// on without those that are not.
func (c *TLSConfig) trust(t *launch.TLSConfig) (err error) {
	readable := func(name string) string {
		path, e := filepath.Abs(name)
		if e == nil {
			_, e = os.ReadFile(path)
		}
		if e != nil {
			err = fmt.Errorf("certificates of upstream servers' authorities: %w", e)
		}
		return path
	}
	for _, name := range c.UpstreamCACerts {
		t.UpstreamCACert = append(t.UpstreamCACert, readable(name))
	}
	for _, s := range c.ScopedUpstreamCACerts {
		t.ScopedUpstreamCACert = append(t.ScopedUpstreamCACert, launch.ScopedCACert{Pattern: s.Pattern, Path: readable(s.Path)})
	}
	for _, s := range c.ScopedVerifyUpstream {
		t.ScopedVerifyUpstream = append(t.ScopedVerifyUpstream, launch.ScopedVerify{Pattern: s.Pattern, Verify: s.Verify})
	}
	return err
}

// patterns checks the patterns.
func (c *TLSConfig) patterns() error {
	list := slices.Clone(c.Bypass)
	for _, s := range c.ScopedUpstreamCACerts {
		list = append(list, s.Pattern)
	}
	for _, s := range c.ScopedVerifyUpstream {
		list = append(list, s.Pattern)
	}
	for _, p := range list {
		if _, err := tls.ParsePattern(p); err != nil {
			return err
		}
	}
	return nil
}

// tlsConfig is the SDK's form of t, nil if nothing is intercepted.
func tlsConfig(t launch.TLSConfig) *TLSConfig {
	if !t.Enabled {
		return nil
	}
	c := &TLSConfig{
		Bypass: t.Bypass, VerifyUpstream: &t.VerifyUpstream, InterceptedPorts: t.InterceptedPorts, BlockQUIC: &t.BlockQUICOnIntercept,
		CACert: value(t.InterceptCA.CertPath), CAKey: value(t.InterceptCA.KeyPath), UpstreamCACerts: t.UpstreamCACert,
	}
	if t.Cache != launch.DefaultNetworkConfig().TLS.Cache {
		c.cache = &t.Cache
	}
	for _, s := range t.ScopedUpstreamCACert {
		c.ScopedUpstreamCACerts = append(c.ScopedUpstreamCACerts, ScopedUpstreamCACert(s))
	}
	for _, s := range t.ScopedVerifyUpstream {
		c.ScopedVerifyUpstream = append(c.ScopedVerifyUpstream, ScopedVerifyUpstream(s))
	}
	return c
}
