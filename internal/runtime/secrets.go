package runtime

import (
	"os"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/netstack/dns"
	"github.com/gomsb/gomsb/netstack/secrets"
)

// openSecrets looks the secrets' values up; nil if there are none.
func (n *network) openSecrets(c launch.SecretsConfig) (*secrets.Store, error) {
	if len(c.Secrets) == 0 {
		return nil, nil
	}
	if err := c.Resolve(os.LookupEnv); err != nil {
		return nil, err
	}
	return secrets.NewStore(c.Config(), secrets.Where{Names: n.names, Gateways: n.addrs.Gateways(), Alias: dns.HostAlias})
}

// violation has the sandbox ended, by who reads violations.
func (n *network) violation() {
	select {
	case n.violated <- struct{}{}:
	default:
	}
}

// violations has an element when the sandbox is to end at once. It is nil without a
// network.
func (n *network) violations() <-chan struct{} {
	if n == nil {
		return nil
	}
	return n.violated
}
