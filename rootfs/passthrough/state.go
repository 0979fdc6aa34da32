//go:build linux

package passthrough

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// State is the session: what the guest knows and has open, so that a copy of the machine
// can go on with the same directory. All numbers are little endian.
//
//	version, flags                                4 each
//	next node, next handle, quota used, baseline  8 each
//	owner's user and group                        4 each
//	count of nodes 4, then for each, parents before children:
//	  id, parent, device, inode, birth, look-ups  8 each
//	  kind 4, length of the name 2, name
//	count of handles 4, then for each:
//	  id, node 8 each, open flags 4
//
// The device is 0 for that of the root, which may have another number by then; in an overlay
// files may have another device than their directory. Nodes are found by their names when
// they are used; what is not where it was by then is stale, and so is what has no name any
// more, or is on a file system mounted below the root.
const (
	stateVersion = 2

	stateReady   = 1 << 0
	stateOwner   = 1 << 1
	stateCounted = 1 << 2 // the quota's baseline is known
	stateMask    = stateReady | stateOwner | stateCounted

	stateNode   = 6*8 + 4 + 2
	stateHandle = 2*8 + 4

	// handleDir is the flag of a directory among the open flags of a handle.
	handleDir = 1 << 31
)

// ErrLocks reports a session that cannot be saved, because a copy of the guest could not
// have the locks that the guest holds.
var ErrLocks = errors.New("the guest holds locks on files of the host")

// SaveState encodes the session.
func (s *Server) SaveState() ([]byte, error) {
	s.locks.mu.Lock()
	held := len(s.locks.held)
	s.locks.mu.Unlock()
	if held > 0 {
		return nil, ErrLocks
	}
	t := &s.table
	t.lock()
	defer t.unlock()
	b := le.AppendUint32(nil, stateVersion)
	b = s.appendFixed(b)
	nodes := t.inOrder()
	b = le.AppendUint32(b, uint32(len(nodes)))
	for _, n := range nodes {
		dev := n.file.dev
		if dev == t.root.file.dev {
			dev = 0
		}
		for _, v := range []uint64{n.id, n.parent.id, dev, n.file.ino, uint64(n.file.birth), n.lookups} {
			b = le.AppendUint64(b, v)
		}
		b = le.AppendUint32(b, n.kind)
		b = le.AppendUint16(b, uint16(len(n.name)-1))
		b = append(b, n.name[:len(n.name)-1]...)
	}
	b = le.AppendUint32(b, uint32(len(t.byHandle)))
	for _, h := range t.byHandle {
		b = le.AppendUint64(b, h.id)
		b = le.AppendUint64(b, h.node.id)
		flags := h.flags
		if h.dir != nil {
			flags = handleDir
		}
		b = le.AppendUint32(b, flags)
	}
	return b, nil
}

// appendFixed appends what comes before the nodes.
func (s *Server) appendFixed(b []byte) []byte {
	var flags uint32
	if s.ready.Load() {
		flags |= stateReady
	}
	who := s.owner.Load()
	if who != nil {
		flags |= stateOwner
	} else {
		who = &Owner{}
	}
	s.quota.mu.Lock() // waits for a count
	if s.quota.known {
		flags |= stateCounted
	}
	baseline := s.quota.baseline
	s.quota.mu.Unlock()
	b = le.AppendUint32(b, flags)
	for _, v := range []uint64{s.table.nextID, s.table.nextHandle, uint64(s.quota.used.Load()), uint64(baseline)} {
		b = le.AppendUint64(b, v)
	}
	b = le.AppendUint32(b, who.UID)
	return le.AppendUint32(b, who.GID)
}

// inOrder is all nodes but the root that can be found again, parents before children; mu
// is locked.
func (t *table) inOrder() []*node {
	var list, chain []*node
	done := map[*node]bool{t.root: true} // false: it cannot be found
	for _, n := range t.byID {
		chain = chain[:0]
		for up := n; ; up = up.parent {
			found, seen := done[up]
			if up == nil || seen && !found || len(chain) > maxDepth || up != t.root && up.file.mount != t.root.file.mount {
				for _, lost := range chain {
					done[lost] = false
				}
				break
			}
			if seen {
				for i := len(chain) - 1; i >= 0; i-- {
					done[chain[i]] = true
					list = append(list, chain[i])
				}
				break
			}
			chain = append(chain, up)
		}
	}
	return list
}

// stateReader takes a state apart.
type stateReader struct {
	b   []byte
	bad bool
}

func (r *stateReader) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return make([]byte, n)
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *stateReader) u16() uint16 { return le.Uint16(r.take(2)) }
func (r *stateReader) u32() uint32 { return le.Uint32(r.take(4)) }
func (r *stateReader) u64() uint64 { return le.Uint64(r.take(8)) }

// count reads how many items of at least size bytes follow, at most limit.
func (r *stateReader) count(size, limit int) int {
	n := int(r.u32())
	if n > limit || n > len(r.b)/size {
		r.bad = true
		return 0
	}
	return n
}

// RestoreState continues the session that SaveState of this or an earlier version
// encoded, of a share of the same directory. The error wraps ErrState.
func (s *Server) RestoreState(b []byte) error {
	s.endSession()
	r := &stateReader{b: b}
	if v := r.u32(); v != stateVersion && !r.bad {
		return fmt.Errorf("%w: version %d, not %d", ErrState, v, stateVersion)
	}
	flags := r.u32()
	nextID, nextHandle, used, baseline := r.u64(), r.u64(), int64(r.u64()), int64(r.u64())
	who := Owner{UID: r.u32(), GID: r.u32()}
	if r.bad || flags&^stateMask != 0 || nextID <= rootID || nextHandle == 0 || baseline < 0 || used < -baseline {
		return fmt.Errorf("%w: its head is damaged", ErrState)
	}
	if err := s.restoreNodes(r, nextID); err != nil {
		s.endSession()
		return err
	}
	if err := s.restoreHandles(r, nextHandle); err != nil {
		s.endSession()
		return err
	}
	if flags&stateOwner != 0 {
		s.SetOwner(who)
	}
	if flags&stateCounted != 0 {
		s.quota.used.Store(used)
		s.quota.mu.Lock()
		s.quota.baseline, s.quota.known = baseline, true
		s.quota.mu.Unlock()
		s.quota.begun.Store(true)
	}
	s.dirty.Store(true)
	s.ready.Store(flags&stateReady != 0)
	return nil
}

func (s *Server) restoreNodes(r *stateReader, nextID uint64) error {
	t := &s.table
	t.lock()
	defer t.unlock()
	t.nextID = nextID
	for range r.count(stateNode, t.max-1) {
		n := &node{id: r.u64(), fd: -1, ring: -1}
		parent := t.byID[r.u64()]
		n.file = identity{dev: cmp.Or(r.u64(), t.root.file.dev), mount: t.root.file.mount, ino: r.u64(), birth: int64(r.u64())}
		n.lookups, n.kind = r.u64(), r.u32()
		name := string(r.take(int(r.u16())))
		if r.bad || parent == nil || parent.kind != unix.S_IFDIR || n.id <= rootID || n.id >= nextID || t.byID[n.id] != nil || t.byFile[n.file] != nil ||
			name == "" || name == "." || name == ".." || len(name) > maxName || strings.ContainsAny(name, "/\x00") {
			return fmt.Errorf("%w: node %d is damaged", ErrState, n.id)
		}
		n.size.Store(-1)
		t.byID[n.id], t.byFile[n.file] = n, n
		t.place(n, parent, name+"\x00")
	}
	if r.bad {
		return fmt.Errorf("%w: its nodes are damaged", ErrState)
	}
	return nil
}

func (s *Server) restoreHandles(r *stateReader, nextHandle uint64) error {
	t := &s.table
	c := s.calls.Get().(*call)
	defer s.calls.Put(c)
	for range r.count(stateHandle, t.handles) {
		id, nodeID, flags := r.u64(), r.u64(), r.u32()
		if id == 0 || id >= nextHandle || t.byHandle[id] != nil {
			return fmt.Errorf("%w: handle %d is damaged", ErrState, id)
		}
		t.nextHandle = id
		var errno syscall.Errno
		if flags == handleDir {
			_, errno = c.openDirNode(nodeID)
		} else {
			var known int
			if known, errno = openFlags(flags); errno == 0 {
				_, _, errno = c.openNode(nodeID, known&^unix.O_TRUNC, 0)
			}
		}
		if errno != 0 {
			s.log.Warn("a file that the guest had open is gone", "share", s.cfg.Root, "error", errno)
		}
	}
	t.lock()
	defer t.unlock()
	t.nextHandle = nextHandle
	if r.bad || len(r.b) > 0 {
		return fmt.Errorf("%w: its handles are damaged", ErrState)
	}
	return nil
}
