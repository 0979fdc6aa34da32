//go:build linux

package passthrough

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A share of one file shows a directory of its own with that file in it. What else is in
// the host's directory, and its attributes, stay hidden. The guest mounts the file itself
// and never looks it up again, while editors of the host replace it by another one of the
// same name; so the node of the file is whatever has that name.

// checkOnly checks the one file of such a share.
func (s *Server) checkOnly(root int) error {
	var st unix.Statx_t
	name := append([]byte(s.cfg.Only), 0)
	if errno := statAt(root, &name[0], &st); errno != 0 {
		return fmt.Errorf("file %s: %w", s.cfg.Only, errno)
	}
	if uint32(st.Mode)&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%w: %s is no regular file", ErrConfig, s.cfg.Only)
	}
	return nil
}

// become makes n the regular file that st describes, in the place of the one that it was.
// mu is locked.
func (t *table) become(n *node, st *unix.Statx_t) bool {
	file := identityOf(st)
	if uint32(st.Mode)&unix.S_IFMT != unix.S_IFREG || n.kind != unix.S_IFREG || t.byFile[file] != nil {
		return false
	}
	delete(t.byFile, n.file)
	n.file = file
	t.byFile[file] = n
	n.size.Store(-1)
	n.hint.Store(0)
	n.seen.Store(0)
	return true
}

// shares reports that a name, with its NUL, in the root is shared.
func (s *Server) shares(name []byte) bool {
	return s.cfg.Only == "" || string(name[:len(name)-1]) == s.cfg.Only
}

// soleRoot is owner and mode of the directory around the one file.
func (s *Server) soleRoot() overlay {
	v := overlay{mode: unix.S_IFDIR | 0o755}
	if who := s.owner.Load(); s.cfg.MapOwner && who != nil {
		v.uid, v.gid = who.UID, who.GID
	}
	return v
}
