package launch

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxSocketPath is the longest path of a Unix socket: sun_path less its final NUL.
const maxSocketPath = len(unix.RawSockaddrUnix{}.Path) - 1

// Hash24 is the name of a sandbox's directory under <run>/sandboxes: 24 hex digits.
func Hash24(name string) string { return hash(name, 12) }

// Hash32 is the name of a sandbox's links and lock under <run>: 32 hex digits.
func Hash32(name string) string { return hash(name, 16) }

func hash(name string, bytes int) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:bytes])
}

// AgentSocket is the path of a sandbox's agent socket. It fails with [ErrPathTooLong] if
// it or the control socket beside it does not fit a socket address.
func AgentSocket(runDir, name string) (string, error) {
	dir := filepath.Join(runDir, "sandboxes", Hash24(name))
	agent := filepath.Join(dir, "agent.sock")
	longest := ControlSocket(agent)
	if len(longest) > maxSocketPath {
		return "", fmt.Errorf("%w: %s has %d bytes, the limit is %d: choose a shorter MSB_HOME",
			ErrPathTooLong, longest, len(longest), maxSocketPath)
	}
	return agent, nil
}

// ControlSocket is the path of the control socket of the sandbox with that agent socket.
func ControlSocket(agent string) string { return filepath.Join(filepath.Dir(agent), "control.sock") }

// ControlLink is the path of the symbolic link to the control socket that clients of older
// releases try.
func ControlLink(runDir, name string) string {
	return filepath.Join(runDir, "agent", Hash32(name)+".control.sock")
}

// AgentLink is the path of the symbolic link to the agent socket that clients of older
// releases try.
func AgentLink(runDir, name string) string {
	return filepath.Join(runDir, "agent", Hash32(name)+".sock")
}

// SocketCandidates lists where a sandbox's agent socket may be, best first: the place of
// 0.6.18, then the two of 0.5.7. Clients try each that exists.
func SocketCandidates(runDir, sandboxesDir, name string) []string {
	all := []string{
		filepath.Join(runDir, "sandboxes", Hash24(name), "agent.sock"),
		AgentLink(runDir, name),
		filepath.Join(sandboxesDir, name, "runtime", "agent.sock"),
	}
	fit := all[:0]
	for _, p := range all {
		if len(p) <= maxSocketPath {
			fit = append(fit, p)
		}
	}
	return fit
}

// LockPath is the path of a sandbox's lifecycle lock.
func LockPath(runDir, name string) string {
	return filepath.Join(runDir, "locks", Hash32(name)+".lock")
}
