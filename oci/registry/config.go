package registry

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// Credentials are a user name and a password or token.
type Credentials struct {
	Username, Password string
}

// Config is what a Client is made of. The zero value contacts registries over HTTPS with
// the credentials that Docker's configuration has.
type Config struct {
	// Explicit credentials win over all others; nil if there are none.
	Explicit *Credentials
	// Hosts are settings by registry host, with port if it has one.
	Hosts map[string]Host
	// Insecure makes the client speak plain HTTP with every registry.
	Insecure bool
	// CACerts are PEM bundles of certificate authorities that count besides the system's.
	CACerts [][]byte
	// Keyring holds credentials by host; nil if there is none.
	Keyring Keyring
	// SecretsDir is the folder of the files that Auth.SecretName names.
	SecretsDir string
	// UserAgent names the program to registries; empty means gomsb.
	UserAgent string
	// Logger is told of credential sources that failed and of repeated requests.
	Logger *slog.Logger

	// Transport replaces the connections to registries in tests; its TLS settings are
	// completed by CACerts.
	Transport *http.Transport
	// Retry is how broken requests are repeated; the zero value means DefaultRetry.
	Retry Retry
}

// Host is registries.hosts.HOST of config.json.
type Host struct {
	Insecure bool  `json:"insecure,omitempty"` // plain HTTP
	Auth     *Auth `json:"auth,omitempty"`
}

// Auth names credentials; exactly one of its sources must be set.
type Auth struct {
	Username    string `json:"username"`
	Store       string `json:"store,omitempty"`        // "keyring"
	PasswordEnv string `json:"password_env,omitempty"` // environment variable
	SecretName  string `json:"secret_name,omitempty"`  // file below the secrets folder
}

// ErrConfig reports settings that contradict themselves or name what is not there.
var ErrConfig = errors.New("invalid registry settings")

// check reports whether the settings name exactly one source.
func (a *Auth) check(host string) error {
	sources := 0
	for _, s := range []string{a.Store, a.PasswordEnv, a.SecretName} {
		if s != "" {
			sources++
		}
	}
	switch {
	case sources == 0:
		return fmt.Errorf("%w: no credential source for %s; set one of store, password_env and secret_name", ErrConfig, host)
	case sources > 1:
		return fmt.Errorf("%w: multiple credential sources for %s; set one of store, password_env and secret_name", ErrConfig, host)
	case a.Store != "" && a.Store != "keyring":
		return fmt.Errorf("%w: credential store %q for %s; only keyring is known", ErrConfig, a.Store, host)
	}
	return nil
}

// roots returns the system's certificate authorities and those of the bundles.
func roots(bundles [][]byte) (*x509.CertPool, error) {
	if len(bundles) == 0 {
		return nil, nil // the system's
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for i, bundle := range bundles {
		found := 0
		for rest := bundle; ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if block.Type != "CERTIFICATE" {
				continue
			}
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("%w: CA certificates, entry %d: %w", ErrConfig, i, err)
			}
			pool.AddCert(cert)
			found++
		}
		if found == 0 {
			return nil, fmt.Errorf("%w: CA certificates, entry %d: no certificate in it", ErrConfig, i)
		}
	}
	return pool, nil
}

// Retry says how often and how long broken requests are repeated.
type Retry struct {
	Attempts int           // in a row without any progress
	First    time.Duration // pause before the second attempt; it doubles each time
	Most     time.Duration // longest pause, also when a server asks for more
	Stall    time.Duration // a connection that delivers nothing for so long is broken
}

// DefaultRetry returns what a zero Retry stands for.
func DefaultRetry() Retry {
	return Retry{Attempts: 5, First: 250 * time.Millisecond, Most: 8 * time.Second, Stall: 60 * time.Second}
}
