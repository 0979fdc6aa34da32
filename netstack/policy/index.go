package policy

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// maxNames bounds the names that an Index remembers at a time, maxAddrs the addresses of
// each and family.
const (
	maxNames = 4096
	maxAddrs = 256
)

// Index remembers which addresses the sandbox resolved names to, as long as the answers
// said. It is safe for concurrent use.
type Index struct {
	now func() time.Time

	mu      sync.RWMutex
	entries map[key]entry
	byAddr  map[netip.Addr][]key
}

type key struct {
	name string
	v6   bool
}

type entry struct {
	addrs   []netip.Addr
	expires time.Time
}

// NewIndex makes an empty index; now is the clock, time.Now if it is nil.
func NewIndex(now func() time.Time) *Index {
	if now == nil {
		now = time.Now
	}
	return &Index{now: now, entries: make(map[key]entry), byAddr: make(map[netip.Addr][]key)}
}

// Set replaces what a canonical name is bound to in one family; no addresses unbind it. A
// time to live below a second counts as one.
func (x *Index) Set(name string, v6 bool, addrs []netip.Addr, ttl time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := key{name, v6}
	x.remove(k)
	if len(addrs) == 0 {
		return
	}
	now := x.now()
	if len(x.entries) >= maxNames {
		x.sweep(now)
	}
	if len(x.entries) >= maxNames {
		x.evict()
	}
	e := entry{expires: now.Add(max(ttl, time.Second))}
	for _, a := range addrs[:min(len(addrs), maxAddrs)] {
		if a = Unwrap(a); !slices.Contains(e.addrs, a) {
			e.addrs = append(e.addrs, a)
			x.byAddr[a] = append(x.byAddr[a], k)
		}
	}
	x.entries[k] = e
}

// remove forgets a key; mu is held.
func (x *Index) remove(k key) {
	for _, a := range x.entries[k].addrs {
		rest := slices.DeleteFunc(x.byAddr[a], func(o key) bool { return o == k })
		if len(rest) == 0 {
			delete(x.byAddr, a)
		} else {
			x.byAddr[a] = rest
		}
	}
	delete(x.entries, k)
}

// sweep forgets what has expired; mu is held.
func (x *Index) sweep(now time.Time) {
	for k, e := range x.entries {
		if !now.Before(e.expires) {
			x.remove(k)
		}
	}
}

// evict forgets the key that would expire first; mu is held.
func (x *Index) evict() {
	var first key
	var when time.Time
	for k, e := range x.entries {
		if when.IsZero() || e.expires.Before(when) {
			first, when = k, e.expires
		}
	}
	x.remove(first)
}

// Sweep forgets what has expired. Bound never sees that anyway.
func (x *Index) Sweep() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sweep(x.now())
}

// Bound reports whether a name that is bound to the address fits m.
func (x *Index) Bound(a netip.Addr, m Matcher) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	now := x.now()
	for _, k := range x.byAddr[Unwrap(a)] {
		if now.Before(x.entries[k].expires) && m.Fits(k.name) {
			return true
		}
	}
	return false
}
