package launch

import (
	"os"
	"slices"
)

// fileSet holds the files of one start so that every way out closes them.
type fileSet struct{ open []*os.File }

func (s *fileSet) pipe() (r, w *os.File, err error) {
	r, w, err = os.Pipe()
	if err == nil {
		s.open = append(s.open, r, w)
	}
	return r, w, err
}

// anonymous returns a file without a name that holds content, positioned at its start.
func (s *fileSet) anonymous(name string, content []byte) (*os.File, error) {
	f, err := anonymousFile(name)
	if err != nil {
		return nil, err
	}
	s.open = append(s.open, f)
	if _, err := f.Write(content); err != nil {
		return nil, err
	}
	_, err = f.Seek(0, 0)
	return f, err
}

// keep takes f out of the set, open.
func (s *fileSet) keep(f *os.File) {
	s.open = slices.DeleteFunc(s.open, func(o *os.File) bool { return o == f })
}

func (s *fileSet) close(f *os.File) {
	s.keep(f)
	_ = f.Close()
}

func (s *fileSet) closeAll() {
	for _, f := range s.open {
		_ = f.Close()
	}
	s.open = nil
}
