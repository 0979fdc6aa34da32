package dns

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// retryNames is how long a host that could not be looked up is left alone while there are
// other servers.
const retryNames = 30 * time.Second

// Named are servers that were configured, host:port as ParseNameserver returns them. Hosts
// are looked up when they are first needed, and again until that succeeds; the first
// address of each counts.
type Named struct {
	names  []string
	lookUp func(ctx context.Context, server string) (netip.AddrPort, error)

	mu    sync.Mutex
	found []netip.AddrPort // by name; invalid: not yet; protected by mu
	round *round           // of lookups, nil if none is under way; protected by mu
	tried time.Time        // when the last round began; protected by mu
}

// round is one try to look up every host that is not known.
type round struct {
	left  int           // lookups that have not ended; protected by Named.mu
	first chan struct{} // closed when one has succeeded, or all have failed
	known bool          // first is closed; protected by Named.mu
}

// NewNamed makes the servers of names; the error wraps ErrNameserver.
func NewNamed(names []string) (*Named, error) {
	n := &Named{lookUp: lookUp, found: make([]netip.AddrPort, len(names))}
	for i, s := range names {
		canonical, err := ParseNameserver(s)
		if err != nil {
			return nil, err
		}
		n.names = append(n.names, canonical)
		n.found[i], _ = netip.ParseAddrPort(canonical) // else it is a name
	}
	return n, nil
}

// List is the servers whose addresses are known. It waits for lookups only as long as none
// is.
func (n *Named) List(ctx context.Context) []netip.AddrPort {
	list, r := n.known(ctx)
	if len(list) > 0 || r == nil {
		return list
	}
	select {
	case <-r.first:
	case <-ctx.Done():
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.list()
}

// known is what List returns at once, and the lookups that are under way, which it begins
// where that is due.
func (n *Named) known(ctx context.Context) ([]netip.AddrPort, *round) {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.list()
	due := len(list) == 0 || n.tried.IsZero() || time.Since(n.tried) >= retryNames
	if len(list) < len(n.names) && n.round == nil && due && ctx.Err() == nil {
		n.begin()
	}
	return list, n.round
}

// list needs n.mu.
func (n *Named) list() (list []netip.AddrPort) {
	for _, a := range n.found {
		if a.IsValid() {
			list = append(list, a)
		}
	}
	return list
}

// begin looks up what is missing, in the background: a question that gives up does not end
// what others wait for. It needs n.mu.
func (n *Named) begin() {
	r := &round{first: make(chan struct{})}
	n.round, n.tried = r, time.Now()
	for i, a := range n.found {
		if a.IsValid() {
			continue
		}
		r.left++
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), DefaultTimeout)
			defer cancel()
			a, _ := n.lookUp(ctx, n.names[i]) // again in the next round
			n.ended(r, i, a)
		}()
	}
}

// ended takes the result of one lookup, invalid if it failed.
func (n *Named) ended(r *round, i int, a netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.found[i] = a
	if r.left--; r.left == 0 {
		n.round = nil
	}
	if !r.known && (a.IsValid() || r.left == 0) {
		r.known = true
		close(r.first)
	}
}

// lookUp asks the host's resolver for the address of host:port.
func lookUp(ctx context.Context, s string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return netip.AddrPort{}, err
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(p)), nil
}
