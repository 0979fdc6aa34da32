package microsandbox

import (
	"crypto/rand"
	"errors"
	"maps"
	"os"
	"path"
	"strings"
)

// scriptsDir is where scripts are in the sandbox's runtime directory, and below /.msb of
// the guest.
const scriptsDir = "scripts"

// WithScripts adds programs by name, which are found by their name in the guest. The
// content is that of the file, its first line included.
func WithScripts(scripts map[string]string) SandboxOption {
	return func(c *SandboxConfig) {
		if c.Scripts == nil {
			c.Scripts = map[string]string{}
		}
		maps.Copy(c.Scripts, scripts)
	}
}

func (c *SandboxConfig) validateScripts() error {
	for _, name := range sortedKeys(c.Scripts) {
		if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
			return fail(ErrInvalidConfig, "script name %q is not a file name", name)
		}
	}
	return nil
}

// writeScripts puts the scripts into the runtime directory dir. A guest has been writing
// there: nothing outside is touched, whatever links it left.
func (s *spec) writeScripts(dir string) (err error) {
	if len(s.Runtime.Scripts) == 0 {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return wrap(ErrIO, err)
	}
	defer func() { err = wrap(ErrIO, errors.Join(err, root.Close())) }()
	if info, err := root.Lstat(scriptsDir); err == nil && !info.IsDir() {
		if err := root.Remove(scriptsDir); err != nil {
			return err
		}
	}
	if err := root.MkdirAll(scriptsDir, 0o755); err != nil {
		return err
	}
	for _, name := range sortedKeys(s.Runtime.Scripts) {
		if err := writeScript(root, path.Join(scriptsDir, path.Base(name)), s.Runtime.Scripts[name]); err != nil {
			return err
		}
	}
	return nil
}

func writeScript(root *os.Root, name, content string) error {
	temporary := path.Join(scriptsDir, ".new-"+rand.Text())
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	err = errors.Join(err, f.Chmod(0o755), f.Close()) // whatever the umask
	if err == nil {
		if err = root.Rename(temporary, name); err != nil { // of a directory in its place
			err = errors.Join(root.RemoveAll(name), root.Rename(temporary, name))
		}
	}
	if err != nil {
		err = errors.Join(err, root.RemoveAll(temporary))
	}
	return err
}
