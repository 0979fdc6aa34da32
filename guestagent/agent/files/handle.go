//go:build linux

package files

import (
	"fmt"
	"os"
	"sync"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// maxHandles is how many handles a client may have open at once.
const maxHandles = 1024

// Service holds the open handles. Its methods may be called concurrently; operations on
// the same handle wait for each other.
type Service struct {
	mu      sync.Mutex
	handles map[uint64]*handle // protected by mu
	next    uint64             // protected by mu
	perSlot map[int]int        // open handles by client; protected by mu
}

// New returns a service without handles.
func New() *Service {
	return &Service{handles: make(map[uint64]*handle), next: 1, perSlot: make(map[int]int)}
}

// handle is an open file or directory.
type handle struct {
	owner       int // client slot
	file        *os.File
	path        string
	dir         bool
	read, write bool

	mu      sync.Mutex // held by the operation that uses the handle
	pending []string   // names read from a directory but not returned yet; protected by mu
	ended   bool       // the directory has no more names; protected by mu
}

// slot is the client that owns id, -1 for nobody.
func slot(id uint32) int {
	if s, ok := proto.SlotOf(id); ok {
		return s
	}
	return -1
}

// add gives h a number. On error h's file is closed.
func (s *Service) add(h *handle) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.perSlot[h.owner]; n >= maxHandles {
		_ = h.file.Close() // nothing was written to it
		return 0, fmt.Errorf("too many open filesystem handles for relay client: %d", n)
	}
	for s.handles[s.next] != nil || s.next == 0 {
		s.next++
	}
	number := s.next
	s.next++
	s.handles[number] = h
	s.perSlot[h.owner]++
	return number, nil
}

// find returns a handle that the client of id may use.
func (s *Service) find(id uint32, number uint64) (*handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.findLocked(id, number)
}

func (s *Service) findLocked(id uint32, number uint64) (*handle, error) {
	h := s.handles[number]
	switch {
	case h == nil:
		return nil, fmt.Errorf("invalid handle: %d", number)
	case h.owner != slot(id):
		return nil, fmt.Errorf("handle %d is owned by a different relay client", number)
	}
	return h, nil
}

func (s *Service) findFile(id uint32, number uint64) (*handle, error) {
	h, err := s.find(id, number)
	if err == nil && h.dir {
		return nil, fmt.Errorf("handle %d is a directory", number)
	}
	return h, err
}

func (s *Service) findDir(id uint32, number uint64) (*handle, error) {
	h, err := s.find(id, number)
	if err == nil && !h.dir {
		return nil, fmt.Errorf("handle %d is a file", number)
	}
	return h, err
}

// close gives a handle up, after the operation that uses it.
func (s *Service) close(id uint32, number uint64) error {
	s.mu.Lock()
	h, err := s.findLocked(id, number)
	if err == nil {
		s.forget(number, h)
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return wrap("close: ", h.file.Close())
}

func (s *Service) forget(number uint64, h *handle) {
	delete(s.handles, number)
	if s.perSlot[h.owner]--; s.perSlot[h.owner] <= 0 {
		delete(s.perSlot, h.owner)
	}
}

// Drop closes all handles whose owner is one of ids: its client is gone. It does not wait
// for operations that use them; those fail, or end with what they have.
func (s *Service) Drop(ids proto.IDRange) {
	first, last := slot(ids.Start), slot(ids.End-1)
	s.mu.Lock()
	var files []*os.File
	for number, h := range s.handles {
		if h.owner >= first && h.owner <= last {
			s.forget(number, h)
			files = append(files, h.file)
		}
	}
	s.mu.Unlock()
	for _, f := range files {
		_ = f.Close() // nobody is left to hear of it
	}
}
