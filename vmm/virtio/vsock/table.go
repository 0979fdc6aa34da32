package vsock

import "sync"

// firstPort is where the ports of connections that the host dials begin; listeners in
// either place are below by custom.
const firstPort = 1 << 30

// table holds the connections that the guest may still speak about.
type table struct {
	limit int

	mu       sync.Mutex
	open     bool          // the device has a driver; protected by mu
	conns    map[key]*Conn // protected by mu
	nextPort uint32        // for Dial; protected by mu
}

func (t *table) get(k key) *Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.conns[k]
}

func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns)
}

// add puts in a connection whose key is not in the table.
func (t *table) add(c *Conn) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.addLocked(c)
}

func (t *table) addLocked(c *Conn) error {
	switch {
	case !t.open:
		return ErrNotReady
	case len(t.conns) >= t.limit:
		return ErrTooMany
	}
	t.conns[c.key] = c
	return nil
}

// addDialled puts in a new connection to port of the guest from a port of its own. Ports
// rise, so that one is reused only after four billion others.
func (t *table) addDialled(d *Device, port uint32) (*Conn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := key{host: t.nextPort, guest: port}
	for t.conns[k] != nil {
		k.host = portAfter(k.host)
	}
	t.nextPort = portAfter(k.host)
	c := newConn(d, k)
	c.dialled, c.pending = true, sendRequest
	return c, t.addLocked(c)
}

// portAfter skips VMADDR_PORT_ANY and what is below firstPort.
func portAfter(p uint32) uint32 {
	if p >= 1<<32-2 {
		return firstPort
	}
	return p + 1
}

func (t *table) remove(c *Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns[c.key] == c {
		delete(t.conns, c.key)
	}
}

// start accepts connections from now on.
func (t *table) start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = true
}

// stop accepts none any more and returns those that were there.
func (t *table) stop() []*Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = false
	conns := make([]*Conn, 0, len(t.conns))
	for _, c := range t.conns {
		conns = append(conns, c)
	}
	clear(t.conns)
	return conns
}
