//go:build linux

package spawn

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// fallbackPath is searched when the environment has no PATH.
const fallbackPath = "/usr/local/bin:/bin:/usr/bin"

// pathOf returns the value of PATH in env.
func pathOf(env []string) string {
	for _, v := range env {
		if p, ok := strings.CutPrefix(v, "PATH="); ok {
			return p
		}
	}
	return fallbackPath
}

// eachCandidate calls try with each path that name may mean, as execvp(3) does: until it
// succeeds or fails with something else than not being there or not being allowed. It
// returns the error to report.
func eachCandidate(name, path string, try func(path string) error) error {
	if name == "" {
		return unix.ENOENT
	}
	if strings.Contains(name, "/") {
		return try(name)
	}
	if len(name) > unix.NAME_MAX {
		return unix.ENAMETOOLONG
	}
	report := error(unix.ENOENT)
	for dir := range strings.SplitSeq(path, ":") {
		candidate := name // an empty entry is the working directory
		if dir != "" {
			candidate = dir + "/" + name
		}
		switch err := try(candidate); err {
		case nil:
			return nil
		case unix.EACCES:
			report = err
		case unix.ENOENT, unix.ENOTDIR:
		default:
			return err
		}
	}
	return report
}

// reachable spares forks for candidates that are surely not there. What it lets pass may
// still not be executable for the command's user.
func reachable(path, dir string) error {
	if !filepath.IsAbs(path) {
		path = dir + "/" + path
	}
	return unix.Access(path, unix.X_OK)
}
