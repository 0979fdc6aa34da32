package launch

import (
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/gomsb/gomsb/netstack/proxy"
)

// OutboundProxy is a proxy as configured. It has no password, only where that is kept.
type OutboundProxy struct {
	Protocol    string            `json:"protocol"`          // socks4 or socks5
	Address     string            `json:"address"`           // IP:PORT
	UserID      *string           `json:"user_id,omitempty"` // of socks4
	Credentials *ProxyCredentials `json:"credentials,omitempty"`
}

// ProxyCredentials identify the user of a SOCKS5 proxy.
type ProxyCredentials struct {
	Username string       `json:"username"`
	Password SecretSource `json:"password"`
}

// ResolvedProxy is a proxy as the runtime uses it, password included: exactly one field is
// set. It is for the launch configuration alone, which no disk ever sees.
type ResolvedProxy struct {
	Socks4 *ResolvedSocks4 `json:"Socks4,omitempty"`
	Socks5 *ResolvedSocks5 `json:"Socks5,omitempty"`
}

// ResolvedSocks4 is a proxy of version 4.
type ResolvedSocks4 struct {
	Address string  `json:"address"`
	UserID  *string `json:"user_id"`
}

// ResolvedSocks5 is a proxy of version 5.
type ResolvedSocks5 struct {
	Address     string               `json:"address"`
	Credentials *ResolvedCredentials `json:"credentials"`
}

// ResolvedCredentials are a user's name and password.
type ResolvedCredentials struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// LogValue keeps the password out of logs.
func (ResolvedCredentials) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// String keeps the password out of texts.
func (ResolvedCredentials) String() string { return "[redacted]" }

// GoString is String.
func (c ResolvedCredentials) GoString() string { return c.String() }

// Resolve checks the proxy and looks its password up with lookup, which is os.LookupEnv
// but for tests. The error wraps proxy.ErrConfig; no error has the password in it.
func (p *OutboundProxy) Resolve(lookup func(string) (string, bool)) (*ResolvedProxy, error) {
	var r ResolvedProxy
	switch p.Protocol {
	case "socks4":
		if p.Credentials != nil {
			return nil, proxyf("a user name and password are for socks5")
		}
		if p.UserID != nil && *p.UserID == "" {
			return nil, proxyf("invalid SOCKS4 user ID: must not be empty")
		}
		r.Socks4 = &ResolvedSocks4{p.Address, p.UserID}
	case "socks5":
		if p.UserID != nil {
			return nil, proxyf("a user ID is for socks4")
		}
		r.Socks5 = &ResolvedSocks5{Address: p.Address}
		if c := p.Credentials; c != nil {
			if c.Password.Kind != "env" {
				return nil, proxyf("a password comes from a variable of the environment, not from %q", c.Password.Kind)
			}
			password, ok := lookup(c.Password.Var)
			if !ok || password == "" {
				return nil, proxyf("host environment variable %s is not set", c.Password.Var)
			}
			r.Socks5.Credentials = &ResolvedCredentials{c.Username, password}
		}
	default:
		return nil, proxyf("protocol %q: choose socks4 or socks5", p.Protocol)
	}
	_, err := r.Config()
	return &r, err
}

// Config is the proxy as it is dialled. The error wraps proxy.ErrConfig.
func (r *ResolvedProxy) Config() (c proxy.Config, err error) {
	var address string
	switch {
	case r.Socks4 != nil && r.Socks5 == nil:
		c.Version, address = proxy.SOCKS4, r.Socks4.Address
		if id := r.Socks4.UserID; id != nil {
			c.UserID = *id
		}
	case r.Socks5 != nil && r.Socks4 == nil:
		c.Version, address = proxy.SOCKS5, r.Socks5.Address
		if u := r.Socks5.Credentials; u != nil {
			c.Username, c.Password = u.Username, u.Password
			if u.Username == "" || u.Password == "" {
				return c, proxyf("empty credentials")
			}
		}
	default:
		return c, proxyf("want either Socks4 or Socks5")
	}
	if c.Address, err = netip.ParseAddrPort(address); err != nil {
		return c, proxyf("invalid address %q: write IP:PORT", address)
	}
	return c, c.Validate()
}

// proxyf is an error that wraps proxy.ErrConfig.
func proxyf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", proxy.ErrConfig, fmt.Sprintf(format, args...))
}

// CheckProxy reports a network that is configured with a proxy but was launched without
// one, or the other way round: such a sandbox would reach the world by another way than
// was meant. The error wraps proxy.ErrConfig.
func (n *Network) CheckProxy() error {
	if n != nil && n.Config.Enabled && (n.Config.OutboundProxy == nil) != (n.OutboundProxy == nil) {
		return proxyf("it is configured but not resolved, or resolved but not configured")
	}
	return nil
}
