package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/netstack"
	mitm "github.com/gomsb/gomsb/netstack/tls"
)

const (
	// authorityWait is how long another process may take to make the host's authority.
	authorityWait = 30 * time.Second
	// Bounds of what a configuration can ask for.
	maxLeaves   = 100_000
	maxValidity = 10 * 365 * 24 // hours
)

// authorityOf is the authority that the guest is to trust for interception: the one
// configured, or the host's own, which is in the directory of the data root; nil if nothing
// is intercepted.
func authorityOf(c *launch.Config, cfg *launch.NetworkConfig) (*mitm.Authority, error) {
	if cfg == nil || !cfg.TLS.Enabled {
		return nil, nil
	}
	cert, key := cfg.TLS.InterceptCA.CertPath, cfg.TLS.InterceptCA.KeyPath
	switch {
	case cert != nil && key != nil:
		return mitm.LoadAuthority(*cert, *key)
	case cert != nil || key != nil:
		return nil, fmt.Errorf("%w: intercept CA config is incomplete; set both cert_path and key_path", netstack.ErrConfig)
	}
	ctx, cancel := context.WithTimeout(context.Background(), authorityWait)
	defer cancel()
	home := filepath.Dir(filepath.Dir(c.DBPath)) // of <home>/db/msb.db
	return mitm.PersistedAuthority(ctx, filepath.Join(home, "tls"))
}

// interceptor is how TLS is intercepted; nil if a is.
func interceptor(a *mitm.Authority, t *launch.TLSConfig, log *slog.Logger) (*mitm.Interceptor, error) {
	if a == nil {
		return nil, nil
	}
	trust := mitm.Trust{Files: t.UpstreamCACert, NoVerify: !t.VerifyUpstream}
	for _, s := range t.ScopedUpstreamCACert {
		trust.Scoped = append(trust.Scoped, mitm.ScopedTrust{Pattern: s.Pattern, File: s.Path})
	}
	for _, s := range t.ScopedVerifyUpstream {
		trust.Scoped = append(trust.Scoped, mitm.ScopedTrust{Pattern: s.Pattern, Verify: &s.Verify})
	}
	return mitm.New(mitm.Config{
		Authority: a, Ports: t.InterceptedPorts, Bypass: t.Bypass, Trust: trust, AllowQUIC: !t.BlockQUICOnIntercept,
		Capacity: int(min(t.Cache.Capacity, maxLeaves)),
		Validity: time.Duration(min(t.Cache.ValidityHours, maxValidity)) * time.Hour, Logger: log,
	})
}
