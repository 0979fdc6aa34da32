package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/internal/template"
	"github.com/gomsb/gomsb/snapshot/format"
)

// A sandbox that is branched again and again would write all that it has written since its
// start each time. So the second time, if that is much, it is written whole, as a base of the
// sandbox's own, which is then behind its memory: the third time what has changed since is
// written. Bases are in a folder each, by number, of which the last two are kept: copies that
// come up may still ask for the one before.

const (
	// rebaseLeast is how many bytes the last copy must have taken, and rebasePart which part of
	// the base, so that all bases of a sandbox together cost no more than its copies did.
	rebaseLeast = 16 << 20
	rebasePart  = 2
	// rebaseMost is up to how many views of a base the memory may have. A process has some
	// 65 000 mappings at most.
	rebaseMost = 8192
)

// noBase says that copies cost what they did, and work.
const noBase = "the next copy will not be cheaper than this one"

// wantsBase reports that what is to be saved now is better saved as a base.
func (m *microVM) wantsBase(l format.Lifetime) bool {
	if l != format.Passing || m.cfg.Bases == "" || m.watched.Load() {
		return false
	}
	least := int64(rebaseLeast)
	if m.base != nil {
		size, err := m.base.BaseSize()
		if err != nil {
			return false
		}
		least = max(least, size/rebasePart)
	}
	return m.last >= least
}

// baseDir is the folder of base n.
func (m *microVM) baseDir(n int) string { return filepath.Join(m.cfg.Bases, strconv.Itoa(n)) }

// prepareBase begins the next base, unless there is no room for all that is known to be in it:
// it is not worth that a disk is full for a moment.
func (m *microVM) prepareBase(ctx context.Context) error {
	size := m.last
	if m.base != nil {
		n, err := m.base.BaseSize()
		if err != nil {
			return err
		}
		size += n
	}
	if err := roomFor(filepath.Dir(m.cfg.Bases), size); err != nil {
		return err
	}
	next, err := format.Begin(ctx, m.baseDir(m.bases+1), m.base, format.PassingBase)
	if err == nil {
		m.next = next
	}
	return err
}

// roomFor fails where a file of n bytes would not fit. Where nobody knows, it might.
func roomFor(dir string, n int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil
	}
	if free := st.Bavail * uint64(st.Bsize); free < uint64(n) {
		return fmt.Errorf("%s: %w: %d MiB are free, and %d wanted", dir, unix.ENOSPC, free>>20, n>>20)
	}
	return nil
}

// GiveUp ends what Prepare has begun.
func (m *microVM) GiveUp() error {
	m.saving.Lock()
	defer m.saving.Unlock()
	return m.dropNext()
}

func (m *microVM) dropNext() error {
	if m.next == nil {
		return nil
	}
	next := m.next
	m.next = nil
	return next.Discard()
}

// rebase saves the machine, which stands still, as its next base, and goes on from that. After
// an error all is as before.
func (m *microVM) rebase(ctx context.Context, h format.Header, state []byte, memory format.Memory) (err error) {
	next, dir := m.next, m.baseDir(m.bases+1)
	m.next = nil
	if err := next.Capture(ctx, h, state, memory); err != nil {
		return errors.Join(err, next.Discard())
	}
	if err := next.Publish(ctx); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	base, err := format.Open(ctx, dir)
	if err != nil {
		return err
	}
	saved, _, err := template.Copy(base)
	if err == nil && len(saved.Extents) > rebaseMost {
		err = fmt.Errorf("its memory is in %d pieces, of at most %d", len(saved.Extents), rebaseMost)
	}
	if err == nil {
		err = m.vm.Rebase(saved.Extents)
	}
	if err != nil {
		return errors.Join(err, base.Close())
	}
	if m.base != nil {
		err = m.base.Close()
	}
	m.base, m.bases = base, m.bases+1
	if e := os.RemoveAll(m.baseDir(m.bases - 2)); e != nil {
		m.cfg.Logger.Warn("cannot remove what copies were based on", "err", e)
	}
	if err != nil { // it was only read
		m.cfg.Logger.Warn("cannot close what the memory was based on", "err", err)
	}
	return nil
}
