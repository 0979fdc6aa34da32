package microsandbox

import (
	"net/netip"
	"os"
	"strings"

	"github.com/gomsb/gomsb/internal/launch"
)

// launch is the configuration's form of the proxy, whose password is there to be looked up.
// It fails with ErrInvalidConfig.
func (c *OutboundProxyConfig) launch() (*launch.OutboundProxy, error) {
	if c == nil {
		return nil, nil
	}
	protocol, address, err := splitProxyURL(c.URL)
	if err != nil {
		return nil, err
	}
	p := &launch.OutboundProxy{Protocol: protocol, Address: address.String(), UserID: pointer(c.Socks4UserID)}
	switch {
	case protocol != "socks4" && c.Socks4UserID != "":
		return nil, fail(ErrInvalidConfig, "a SOCKS4 user ID requires a socks4:// proxy")
	case protocol != "socks5" && (c.Socks5Username != "" || c.Socks5PasswordEnv != ""):
		return nil, fail(ErrInvalidConfig, "a SOCKS5 user name and password require a socks5:// proxy")
	case (c.Socks5Username == "") != (c.Socks5PasswordEnv == ""):
		return nil, fail(ErrInvalidConfig, "a SOCKS5 user name requires the variable of the password, and the other way round")
	case strings.ContainsAny(c.Socks5PasswordEnv, "=\x00"):
		return nil, fail(ErrInvalidConfig, "the variable of a SOCKS5 password is not named %q", c.Socks5PasswordEnv)
	}
	if c.Socks5Username != "" {
		p.Credentials = &launch.ProxyCredentials{Username: c.Socks5Username, Password: launch.SecretSource{Kind: "env", Var: c.Socks5PasswordEnv}}
	}
	_, err = p.Resolve(os.LookupEnv)
	return p, wrap(ErrInvalidConfig, err)
}

// splitProxyURL takes a proxy's URL apart.
func splitProxyURL(text string) (protocol string, a netip.AddrPort, err error) {
	protocol, address, ok := strings.Cut(text, "://")
	switch {
	case !ok:
		return "", a, fail(ErrInvalidConfig, "outbound proxy URI must include a protocol, for example socks5://127.0.0.1:1080")
	case protocol != "socks4" && protocol != "socks5":
		return "", a, fail(ErrInvalidConfig, "unsupported outbound proxy protocol %q; supported protocols are socks4:// and socks5://", protocol)
	case strings.Contains(address, "@"): // no part of it in the text, it may be a password
		return "", a, fail(ErrInvalidConfig, "outbound proxy credentials are not supported in the URL")
	case strings.ContainsAny(address, "/?#"):
		return "", a, fail(ErrInvalidConfig, "an outbound proxy's URL must not include a path, query, or fragment")
	}
	if a, err = netip.ParseAddrPort(address); err != nil || a.Port() == 0 || a.Addr().Zone() != "" {
		return "", a, fail(ErrInvalidConfig, "invalid %s proxy address %q: write IP:PORT", strings.ToUpper(protocol), address)
	}
	return protocol, a, nil
}

// proxyConfig is the SDK's form of a proxy, nil for none.
func proxyConfig(p *launch.OutboundProxy) *OutboundProxyConfig {
	if p == nil {
		return nil
	}
	c := &OutboundProxyConfig{URL: p.Protocol + "://" + p.Address, Socks4UserID: value(p.UserID)}
	if u := p.Credentials; u != nil {
		c.Socks5Username, c.Socks5PasswordEnv = u.Username, u.Password.Var
	}
	return c
}
