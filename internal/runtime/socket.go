package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/internal/launch"
)

// socket is the agent or control socket with the link that older clients look for.
type socket struct {
	path     string
	link     string // empty when not published
	listener *net.UnixListener
	id       fs.FileInfo // of the socket file that is ours
}

// listenAt binds a socket of the sandbox, in place of one that a dead runtime left: the
// lifecycle lock says that no other runtime of this name is alive.
func listenAt(path string) (*socket, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := checkPrivate(dir); err != nil {
		return nil, err
	}
	st, err := os.Lstat(path)
	switch {
	case err == nil && st.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is in the way and is not a socket: remove it", path)
	case err == nil:
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // only if it is still ours: see remove
	s := &socket{path: path, listener: l}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if s.id, err = os.Lstat(path); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return s, nil
}

// checkPrivate makes sure that nobody else can put a socket into dir.
func checkPrivate(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	switch {
	case uint32(st.Mode)&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%s is not a directory", dir)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d: choose another MSB_HOME", dir, st.Uid)
	case st.Mode&0o022 != 0:
		return os.Chmod(dir, 0o700)
	}
	return nil
}

// publish makes the link at which older clients look. An entry that is somebody else's
// stays: those clients then reach whatever it is.
func (s *socket) publish(link string, log *slog.Logger) error {
	if link == s.path {
		return nil
	}
	target, err := filepath.Rel(filepath.Dir(link), s.path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
		return err
	}
	switch old, err := os.Readlink(link); {
	case err == nil && old == target:
		s.link = link // left by a run that was killed
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		log.Warn("the link to a socket is taken; clients of old releases will not find this sandbox", "path", link)
		return nil
	}
	if err := os.Symlink(target, link); err != nil {
		return err
	}
	s.link = link
	return nil
}

// remove closes the socket and deletes its files, as far as they are ours.
func (s *socket) remove() error {
	errs := []error{s.listener.Close()}
	if errors.Is(errs[0], net.ErrClosed) {
		errs[0] = nil
	}
	if s.link != "" {
		errs = append(errs, removeIfThere(s.link))
	}
	if st, err := os.Lstat(s.path); err == nil && os.SameFile(st, s.id) {
		errs = append(errs, removeIfThere(s.path))
	}
	// The directory is this sandbox's own in the current layout; elsewhere it is not
	// empty, or shared, and stays.
	if filepath.Base(s.path) == "agent.sock" && filepath.Base(filepath.Dir(filepath.Dir(s.path))) == "sandboxes" {
		_ = os.Remove(filepath.Dir(s.path))
	}
	return errors.Join(errs...)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// linkPath is where the link of a sandbox belongs.
func linkPath(inv *launch.Invocation) string { return launch.AgentLink(inv.Config.Run(), inv.Name) }
