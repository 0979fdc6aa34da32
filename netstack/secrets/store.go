package secrets

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gomsb/gomsb/netstack/policy"
)

// Where is what decides whether an address belongs to a host.
type Where struct {
	Names    *policy.Index // what the guest has resolved
	Gateways []netip.Addr  // the gateway's addresses
	Alias    string        // name of the gateway
}

// Store has the secrets of a sandbox while it runs. It is safe for concurrent use.
type Store struct {
	where  Where
	mu     sync.Mutex // held by who changes config
	config atomic.Pointer[Config]
	bodies atomic.Int64 // bytes of bodies that all connections hold together
}

// NewStore makes a store of a valid configuration.
func NewStore(c Config, w Where) (*Store, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Secrets = slices.Clone(c.Secrets)
	s := &Store{where: w}
	s.config.Store(&c)
	return s, nil
}

// Rewriter makes the rewriter of a connection, with the secrets as they are now: it keeps
// them. It is nil if nothing the guest sends there can matter.
func (s *Store) Rewriter(c Connection) Rewriter {
	config := s.config.Load()
	if len(config.Secrets) == 0 && !c.Strict {
		return nil
	}
	e := &engine{c: c, store: s, config: config}
	if c.Host != "" || c.Intercepted || c.Connect {
		e.view = config.view(c, &s.where, named)
		if e.view.idle() && !c.Strict {
			return nil
		}
	}
	return e
}

// ChangeKind is what a Change does.
type ChangeKind string

// The changes.
const (
	Rotate   ChangeKind = "rotate"            // give the secret another value
	Remove   ChangeKind = "remove"            // forget it, if it is there
	SetHosts ChangeKind = "set_allowed_hosts" // replace the hosts that may have it
)

// Change is one change of a secret while the sandbox runs.
type Change struct {
	Kind  ChangeKind
	Name  string // environment variable
	Value Value
	Hosts []HostPattern
}

// Update makes all the changes, in order, or none and fails with an error that wraps
// ErrInvalid. Connections that exist keep what they have.
func (s *Store) Update(changes ...Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := *s.config.Load()
	next.Secrets = slices.Clone(next.Secrets)
	for _, c := range changes {
		if err := next.apply(c); err != nil {
			return err
		}
	}
	if err := next.Validate(); err != nil {
		return err
	}
	s.config.Store(&next)
	return nil
}

func (c *Config) apply(change Change) error {
	known := slices.ContainsFunc(c.Secrets, func(s Secret) bool { return s.EnvVar == change.Name })
	switch {
	case change.Kind == Remove:
		c.Secrets = slices.DeleteFunc(c.Secrets, func(s Secret) bool { return s.EnvVar == change.Name })
		return nil
	case change.Kind != Rotate && change.Kind != SetHosts:
		return invalid("unknown change %q: want rotate, remove or set_allowed_hosts", change.Kind)
	case !known:
		return invalid("there is no secret %q; new ones need a restart", change.Name)
	}
	for i := range c.Secrets {
		if s := &c.Secrets[i]; s.EnvVar == change.Name {
			if change.Kind == Rotate {
				s.Value = change.Value
			} else {
				s.Hosts = slices.Clone(change.Hosts)
			}
		}
	}
	return nil
}
