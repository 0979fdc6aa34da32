//go:build linux

package passthrough

import (
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// identity tells files apart. The time of birth, where the file system knows it, tells a
// file from a later one with the same inode number.
type identity struct {
	dev, ino, mount uint64
	birth           int64 // nanoseconds, 0 if unknown
}

func identityOf(st *unix.Statx_t) identity {
	id := identity{dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino, mount: st.Mnt_id}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.birth = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return id
}

// node is a file that the guest knows. Its fields are protected by table.mu, but for id
// and kind, which never change, and the atomic ones.
type node struct {
	id   uint64
	file identity // changes only in a share of one file
	kind uint32   // type of the host's file, S_IFMT

	lookups  uint64 // that the guest has not forgotten
	children int    // nodes whose parent this is
	users    int    // calls that use fd
	// fd is a descriptor of the path, -1 for none.
	fd int
	// parent and name, which ends with a NUL, are where the file was seen last. Without
	// a parent it has no name any more, and fd, if there is one, is all that is left.
	parent *node
	name   string
	open   *handle // handles of the file
	ring   int     // index in table.ring, -1 if fd may not be closed
	recent bool    // used since the ring's hand passed
	dead   bool    // the session that knew it has ended

	// size is the length in bytes that the quota knows of, -1 if it knows none.
	size atomic.Int64
	// hint is what is known of the owner and mode that the guest sees; see hintOf.
	hint atomic.Uint64
	// seen is the version of the content when the file was opened last; see handle.go.
	seen atomic.Uint64
}

// table is all nodes and handles of a session.
type table struct {
	mu      sync.Mutex
	max     int // nodes
	budget  int // descriptors of nodes
	handles int // maximum of handles
	// fickle is of a share of one file: it keeps no descriptor of a node longer than a
	// call, so that the node is what its name leads to.
	fickle bool
	sole   *node // of the one file, nil before the first look-up

	root    *node
	nextID  uint64 // never used before; protected by mu
	byID    map[uint64]*node
	byFile  map[identity]*node
	ring    []*node // whose fd may be closed, because they have a name
	hand    int     // of the ring
	orphans int     // nodes without a name, but with fd
	trash   []int   // descriptors to close when mu is unlocked

	byHandle   map[uint64]*handle
	nextHandle uint64
}

// lock and unlock guard the table. Descriptors that were given up meanwhile are closed
// after it, because that may take long.
func (t *table) lock() { t.mu.Lock() }

func (t *table) unlock() {
	for len(t.trash) > 0 {
		var batch [16]int
		n := copy(batch[:], t.trash)
		t.trash = t.trash[:copy(t.trash, t.trash[n:])]
		t.mu.Unlock()
		for _, fd := range batch[:n] {
			_ = unix.Close(fd) // of a path, or of what the guest has closed
		}
		t.mu.Lock()
	}
	t.mu.Unlock()
}

// discard closes fd later; mu is locked.
func (t *table) discard(fd int) {
	if fd >= 0 {
		t.trash = append(t.trash, fd)
	}
}

// clear forgets all nodes but the root, and all handles; calls that are under way end
// well. mu is locked.
func (t *table) clear() {
	for _, h := range t.byHandle {
		t.dropHandle(h)
	}
	for _, n := range t.byID {
		if n == t.root {
			continue
		}
		n.lookups, n.parent, n.children = 0, nil, 0
		n.ring, n.dead = -1, true
		if n.users == 0 {
			t.discard(n.fd)
			n.fd = -1
		}
	}
	t.root.children = 0
	t.ring, t.hand, t.orphans = t.ring[:0], 0, 0
	t.byID = map[uint64]*node{rootID: t.root}
	t.byFile = map[identity]*node{t.root.file: t.root}
	t.byHandle = map[uint64]*handle{}
}

// find returns a node that the guest knows; mu is locked.
func (t *table) find(id uint64) *node {
	if n := t.byID[id]; n != nil && n.lookups > 0 {
		return n
	}
	return nil
}

// see returns the node of the file that st describes, found as name in parent, which the
// caller holds, and counts one look-up of the guest.
func (t *table) see(parent *node, name []byte, st *unix.Statx_t) (*node, syscall.Errno) {
	file := identityOf(st)
	t.lock()
	defer t.unlock()
	n := t.byFile[file]
	if n == nil && t.sole != nil && !t.sole.dead && t.become(t.sole, st) {
		n = t.sole
	}
	switch {
	case n == nil:
		if len(t.byID) >= t.max {
			return nil, unix.ENFILE
		}
		n = &node{id: t.nextID, file: file, kind: uint32(st.Mode) & unix.S_IFMT, fd: -1, ring: -1}
		t.nextID++
		n.size.Store(-1)
		t.byID[n.id], t.byFile[file] = n, n
		t.place(n, parent, string(name))
		if t.fickle {
			t.sole = n
		}
	case n != t.root && (n.parent != parent || n.name != string(name)):
		t.place(n, parent, string(name))
	}
	n.lookups++
	return n, 0
}

// place says where n is; mu is locked.
func (t *table) place(n, parent *node, name string) {
	if n == t.root {
		return
	}
	old := n.parent
	if old != parent {
		parent.children++
	}
	n.parent, n.name = parent, name
	if n.fd >= 0 && n.ring < 0 {
		if old == nil {
			t.orphans--
		}
		t.enter(n)
	}
	if old != nil && old != parent {
		old.children--
		t.reap(old)
	}
}

// orphan says that n has lost its name. A descriptor that is open stays, unless there
// are too many of them; mu is locked.
func (t *table) orphan(n *node) {
	if n.parent == nil {
		return
	}
	old := n.parent
	n.parent, n.name = nil, ""
	t.leave(n)
	if n.fd >= 0 {
		t.orphans++
		if t.orphans > t.budget && n.users == 0 {
			t.closeFD(n)
		}
	}
	old.children--
	t.reap(old)
}

// closeFD gives up the descriptor of n, which nobody uses; mu is locked.
func (t *table) closeFD(n *node) {
	if n.fd < 0 {
		return
	}
	if n.ring >= 0 {
		t.leave(n)
	} else if n.parent == nil && !n.dead {
		t.orphans--
	}
	t.discard(n.fd)
	n.fd = -1
}

// enter and leave keep the ring; mu is locked.
func (t *table) enter(n *node) {
	n.ring = len(t.ring)
	t.ring = append(t.ring, n)
}

func (t *table) leave(n *node) {
	if n.ring < 0 {
		return
	}
	last := len(t.ring) - 1
	t.ring[n.ring] = t.ring[last]
	t.ring[n.ring].ring = n.ring
	t.ring[last] = nil
	t.ring = t.ring[:last]
	n.ring = -1
}

// reap removes n, and then its ancestors, as far as nobody needs them; mu is locked.
func (t *table) reap(n *node) {
	for n != nil && n != t.root && !n.dead && n.lookups == 0 && n.children == 0 && n.users == 0 {
		t.closeFD(n)
		delete(t.byID, n.id)
		delete(t.byFile, n.file)
		n.dead = true
		parent := n.parent
		n.parent = nil
		if parent != nil {
			parent.children--
		}
		n = parent
	}
}

// forget takes back count look-ups.
func (t *table) forget(id, count uint64) {
	t.lock()
	defer t.unlock()
	if n := t.find(id); n != nil && n != t.root {
		n.lookups -= min(count, n.lookups)
		t.reap(n)
	}
}

// makeRoom closes descriptors that were not used for a while, until no more than limit
// are left, or none that can be closed; mu is locked.
func (t *table) makeRoom(limit int) {
	for tries := 2 * len(t.ring); len(t.ring) > limit && tries > 0; tries-- {
		if t.hand >= len(t.ring) {
			t.hand = 0
		}
		n := t.ring[t.hand]
		if n.users > 0 || n.recent {
			n.recent = false
			t.hand++
			continue
		}
		t.closeFD(n) // another one takes its place in the ring
	}
}
