//go:build linux

package files

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

const (
	// defaultBatch is how many entries ReadDir returns unless asked otherwise.
	defaultBatch = 128
	// batchBytes bounds the paths in one answer to ReadDir; a longer batch is cut short.
	batchBytes = 1 << 20
	// entryBytes is about what an entry takes in an answer besides its path.
	entryBytes = 90
)

// errTooLong says that a directory does not fit one message.
var errTooLong = errors.New("too many entries for one response; read it with OpenDir and ReadDir")

func openDir(path string) (*os.File, error) {
	fd, err := open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// entry looks at one name in a directory. A name that is gone again has no attributes.
func entry(dir *os.File, path, name string) proto.FSEntry {
	var st unix.Stat_t
	shown := listed(path, name)
	if err := onFD(dir, func(fd int) error { return statAt(fd, name, false, &st) }); err != nil {
		return proto.FSEntry{Path: shown, Kind: proto.EntryOther}
	}
	return entryOf(shown, &st)
}

// nameBatch is how many names are read at a time.
const nameBatch = 256

func list(op proto.FSList) (*proto.FSResult, error) {
	dir, err := openDir(op.Path)
	if err != nil {
		return nil, failed("readdir: opendir: ", err)
	}
	defer func() { _ = dir.Close() }() // only read
	res := &proto.FSResult{Kind: proto.ResultList, Entries: []proto.FSEntry{}}
	size := 0
	for {
		names, err := dir.Readdirnames(nameBatch)
		for _, name := range names {
			e := entry(dir, op.Path, name)
			if size += len(e.Path) + entryBytes; size > proto.MaxFrame {
				return nil, failed("readdir: ", errTooLong)
			}
			res.Entries = append(res.Entries, e)
		}
		if errors.Is(err, io.EOF) {
			return res, nil
		}
		if err != nil {
			return nil, failed("readdir: ", err)
		}
	}
}

func (s *Service) openDir(id uint32, op proto.FSOpenDir) (*proto.FSResult, error) {
	dir, err := openDir(op.Path)
	if err != nil {
		return nil, failed("opendir: ", err)
	}
	number, err := s.add(&handle{owner: slot(id), file: dir, path: op.Path, dir: true})
	if err != nil {
		return nil, err
	}
	return &proto.FSResult{Kind: proto.ResultHandle, Handle: number}, nil
}

// readDir returns the next entries, none at the end.
func (s *Service) readDir(id uint32, op proto.FSReadDir) (*proto.FSResult, error) {
	h, err := s.findDir(id, op.Handle)
	if err != nil {
		return nil, err
	}
	limit := defaultBatch
	if op.Limit != nil {
		limit = int(max(*op.Limit, 1))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	res := &proto.FSResult{Kind: proto.ResultList, Entries: []proto.FSEntry{}}
	for size := 0; len(res.Entries) < limit && size < batchBytes; {
		name, err := h.nextName()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, failed("readdir "+h.path+": ", err)
		}
		e := entry(h.file, h.path, name)
		size += len(e.Path) + entryBytes
		res.Entries = append(res.Entries, e)
	}
	return res, nil
}

// nextName is called with mu held.
func (h *handle) nextName() (string, error) {
	if len(h.pending) == 0 {
		if h.ended {
			return "", io.EOF
		}
		names, err := h.file.Readdirnames(nameBatch)
		if errors.Is(err, io.EOF) {
			h.ended, err = true, nil
		}
		if err != nil {
			return "", err
		}
		if h.pending = names; len(names) == 0 {
			h.ended = true
			return "", io.EOF
		}
	}
	name := h.pending[0]
	h.pending = h.pending[1:]
	return name, nil
}
