package ext4

import (
	"errors"
	"io"
	"maps"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// memory is a sparse image that can refuse writes after some, as a process does that
// is killed, and notices writes outside.
type memory struct {
	pages map[int64]*[BlockSize]byte
	size  int64
	limit int64 // no write may reach beyond
	left  int   // writes until all fail; negative: never
	wrote int
	wild  bool // something was written outside limit
}

var errKilled = errors.New("killed")

func newMemory(size int64) *memory {
	return &memory{pages: map[int64]*[BlockSize]byte{}, size: size, limit: size, left: -1}
}

// formatted returns an image that holds what o describes.
func formatted(t testing.TB, o Options) *memory {
	t.Helper()
	o.UUID = testUUID
	o = o.complete()
	m := newMemory(o.Size)
	require.NoError(t, format(m, o))
	m.wrote = 0
	return m
}

// loaded returns the image in a file.
func loaded(t testing.TB, path string) *memory {
	t.Helper()
	p, err := os.ReadFile(path)
	require.NoError(t, err)
	m := newMemory(int64(len(p)))
	for at := 0; at < len(p); at += BlockSize {
		if part := p[at:min(at+BlockSize, len(p))]; !isHole(part) {
			_, err := m.WriteAt(part, int64(at))
			require.NoError(t, err)
		}
	}
	m.wrote = 0
	return m
}

// save writes the image into a sparse file.
func (m *memory) save(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	for at, page := range m.pages {
		if at*BlockSize < m.size {
			_, err := f.WriteAt(page[:], at*BlockSize)
			require.NoError(t, err)
		}
	}
	require.NoError(t, f.Truncate(m.size))
	require.NoError(t, f.Close())
}

// clone returns a copy that refuses writes after left ones.
func (m *memory) clone(left int) *memory {
	c := *m
	c.left, c.wrote = left, 0
	c.pages = maps.Clone(m.pages)
	for at, page := range c.pages {
		copied := *page
		c.pages[at] = &copied
	}
	return &c
}

func (m *memory) step() error {
	if m.left >= 0 && m.wrote >= m.left {
		return errKilled
	}
	m.wrote++
	return nil
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) && off+int64(n) < m.size {
		at := off + int64(n)
		part := p[n:min(int64(len(p)), int64(n)+BlockSize-at%BlockSize, m.size-off)]
		if page := m.pages[at/BlockSize]; page != nil {
			copy(part, page[at%BlockSize:])
		} else {
			clear(part)
		}
		n += len(part)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if err := m.step(); err != nil {
		return 0, err
	}
	if off < 0 || off+int64(len(p)) > m.limit {
		m.wild = true
		return 0, errors.New("write outside")
	}
	for n := 0; n < len(p); {
		at := off + int64(n)
		page := m.pages[at/BlockSize]
		if page == nil {
			page = new([BlockSize]byte)
			m.pages[at/BlockSize] = page
		}
		n += copy(page[at%BlockSize:], p[n:])
	}
	m.size = max(m.size, off+int64(len(p)))
	return len(p), nil
}

func (m *memory) Truncate(size int64) error {
	if err := m.step(); err != nil {
		return err
	}
	if size > m.limit {
		m.wild = true
	}
	for at, page := range m.pages {
		switch begin := at * BlockSize; {
		case begin >= size:
			delete(m.pages, at)
		case begin+BlockSize > size:
			clear(page[size-begin:])
		}
	}
	m.size = size
	return nil
}

func (m *memory) Sync() error          { return m.step() }
func (m *memory) Size() (int64, error) { return m.size, nil }
