package environ

import (
	"slices"
	"strings"
)

const (
	// ScriptsDir holds the host's scripts; commands find them in their PATH.
	ScriptsDir = "/.msb/scripts"
	// DefaultPath is for an environment without PATH.
	DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// Overlay lays a request's variables over the inherited ones and makes sure that PATH
// has the scripts. Entries without a name are skipped.
func Overlay(base, request []string) []string {
	env := slices.Clone(base)
	hasPath := false
	for _, v := range request {
		if path, ok := strings.CutPrefix(v, "PATH="); ok && !hasPath {
			hasPath = true
			v = "PATH=" + WithScripts(path)
		}
		env = Set(env, v)
	}
	if !hasPath {
		path, ok := Lookup(base, "PATH")
		if !ok {
			path = DefaultPath
		}
		env = Set(env, "PATH="+WithScripts(path))
	}
	return env
}

// WithScripts puts the scripts first in a PATH that does not have them.
func WithScripts(path string) string {
	for dir := range strings.SplitSeq(path, ":") {
		if dir == ScriptsDir {
			return path
		}
	}
	return ScriptsDir + ":" + path
}

// Set sets one variable, in place where it can. What is no variable is skipped.
func Set(env []string, v string) []string {
	i := strings.IndexByte(v, '=')
	if i <= 0 {
		return env
	}
	for n, old := range env {
		if strings.HasPrefix(old, v[:i+1]) {
			env[n] = v
			return env
		}
	}
	return append(env, v)
}

// Lookup finds a variable.
func Lookup(env []string, key string) (value string, ok bool) {
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, key+"="); ok {
			return value, true
		}
	}
	return "", false
}
