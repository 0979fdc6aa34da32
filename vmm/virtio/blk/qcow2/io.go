package qcow2

import (
	"encoding/binary"

	"github.com/gomsb/gomsb/vmm/virtio/blk"
)

func length(list [][]byte) (n uint64) {
	for _, s := range list {
		n += uint64(len(s))
	}
	return n
}

func (m *image) ReadV(off uint64, dst [][]byte) error {
	m.ops.RLock()
	defer m.ops.RUnlock()
	for done, left := uint64(0), length(dst); left > 0; {
		e, err := m.locate(off, left)
		if err != nil {
			return err
		}
		switch e.place {
		case placeZero:
			blk.Wipe(dst, done, e.n)
		case placeCompressed:
			err = m.compressed.read(e.entry, off%m.clusterSize(), dst, done, e.n)
		default:
			err = m.readRaw(e.off, dst, done, e.n)
		}
		if err != nil {
			return err
		}
		off, done, left = off+e.n, done+e.n, left-e.n
	}
	return nil
}

func (m *image) WriteV(off uint64, src [][]byte) error {
	if m.readOnly {
		return blk.ErrReadOnly
	}
	if m.owed.Load() >= maxDropped {
		if err := m.lockAndSettle(); err != nil {
			return err
		}
	}
	m.ops.RLock()
	defer m.ops.RUnlock()
	for done, left := uint64(0), length(src); left > 0; {
		e, err := m.locate(off, left)
		if err != nil {
			return err
		}
		if e.place == placeOwn {
			err = m.file.Write(e.off, src, done, e.n)
		} else {
			e.n, err = m.writeNew(off, src, done, left)
		}
		if err != nil {
			return err
		}
		off, done, left = off+e.n, done+e.n, left-e.n
	}
	return nil
}

// maxBatch is how many clusters are allocated at a time.
const maxBatch = 64

// writeNew stores some of n bytes of src after skip at off of the disk, in clusters that
// are allocated for it, and returns how many.
func (m *image) writeNew(off uint64, src [][]byte, skip, n uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	cs, first := m.clusterSize(), off/m.clusterSize()
	s, err := m.ownTable(first)
	if err != nil {
		return 0, err
	}
	index := first % m.l2Entries()
	count := min((off%cs+n+cs-1)/cs, maxBatch, m.l2Entries()-index)
	n = min(n, count*cs-off%cs)
	var hosts [maxBatch]uint64
	for j := range count {
		entry := binary.BigEndian.Uint64(s.data[(index+j)*8:])
		p, _, err := m.decode(entry)
		var whole bool
		switch {
		case err == nil && p == placeOwn: // another request was here first
			count, n = j, min(n, j*cs-min(j*cs, off%cs))
		case err == nil:
			from, to := part(off, n, j, cs)
			whole = p != placeZero || from == 0 && to == cs
			hosts[j], err = m.alloc.allocate(whole)
			if err == nil && p != placeZero && (from > 0 || to < cs) {
				err = m.copyOld(entry, hosts[j], from, to)
			}
		}
		if err != nil {
			m.releaseAll(hosts[:j+1])
			return 0, err
		}
		if j == count {
			break
		}
	}
	if err := m.writeBatch(off%cs, src, skip, n, hosts[:count]); err != nil {
		m.releaseAll(hosts[:count])
		return 0, err
	}
	for j := range count {
		at := s.data[(index+j)*8:]
		m.dropEntry(binary.BigEndian.Uint64(at))
		binary.BigEndian.PutUint64(at, hosts[j]|flagCopied)
	}
	if count > 0 {
		m.l2.mark(s)
	}
	return n, nil
}

// part is what n bytes at off cover of the cluster that is j after that of off.
func part(off, n, j, cs uint64) (from, to uint64) {
	if j == 0 {
		from = off % cs
	}
	return from, min(cs, off%cs+n-j*cs)
}

func (m *image) releaseAll(hosts []uint64) {
	for _, h := range hosts {
		if h != 0 {
			m.alloc.release(h)
		}
	}
}

// copyOld copies what entry refers to to the cluster at host, but for from to to.
func (m *image) copyOld(entry, host, from, to uint64) error {
	if m.scratch == nil {
		m.scratch = make([]byte, m.clusterSize())
	}
	cs := uint64(len(m.scratch))
	m.one[0] = m.scratch
	var err error
	if entry&flagCompressed != 0 {
		err = m.compressed.read(entry, 0, m.one[:], 0, cs)
	} else {
		err = m.file.Read(entry&maskOffset, m.one[:], 0, cs)
	}
	if err == nil && from > 0 {
		err = m.file.Write(host, m.one[:], 0, from)
	}
	if err == nil && to < cs {
		err = m.file.Write(host+to, m.one[:], to, cs-to)
	}
	return err
}

// writeBatch stores n bytes of src after skip in clusters, from in of the first one on.
func (m *image) writeBatch(in uint64, src [][]byte, skip, n uint64, hosts []uint64) error {
	cs := m.clusterSize()
	for i := 0; i < len(hosts); {
		j := i + 1
		for j < len(hosts) && hosts[j] == hosts[j-1]+cs {
			j++
		}
		step := min(n, uint64(j-i)*cs-in)
		if err := m.file.Write(hosts[i]+in, src, skip, step); err != nil {
			return err
		}
		skip, n, in, i = skip+step, n-step, 0, j
	}
	return nil
}
