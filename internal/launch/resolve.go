package launch

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// SelfEnv is set to "1" in the environment of a program that is executed again as its own
// runtime. A program that embeds the SDK becomes the runtime when it sees it, and only
// then: an argument "sandbox" of its own is left alone.
const SelfEnv = "MSB_GOMSB_RUNTIME"

// Binary is the program that a runtime is started from.
type Binary struct {
	Path string
	Self bool // the running program itself; SelfEnv is set for it
}

// Resolve finds the runtime: MSB_PATH, the configured path, msb beside the running program,
// <home>/bin/msb, msb in PATH, and at last the running program itself. The first two are
// taken as they are, existing or not: a wish that cannot be met should fail, not be
// replaced. getenv is os.Getenv but in tests.
func Resolve(configured, home string, getenv func(string) string) (Binary, error) {
	if p := cmp.Or(getenv("MSB_PATH"), configured); p != "" {
		return Binary{Path: p}, nil
	}
	self, selfErr := os.Executable()
	if selfErr == nil {
		if p := filepath.Join(filepath.Dir(self), "msb"); executable(p) {
			return Binary{Path: p}, nil
		}
	}
	if p := filepath.Join(home, "bin", "msb"); home != "" && executable(p) {
		return Binary{Path: p}, nil
	}
	for _, dir := range filepath.SplitList(getenv("PATH")) {
		if p := filepath.Join(dir, "msb"); filepath.IsAbs(p) && executable(p) {
			return Binary{Path: p}, nil
		}
	}
	if selfErr != nil {
		return Binary{}, fmt.Errorf("%w: %w: set MSB_PATH", ErrNotFound, selfErr)
	}
	return Binary{Path: selfPath(self), Self: true}, nil
}

func executable(path string) bool {
	_, err := exec.LookPath(path) // a path with a slash is checked, not searched
	return err == nil
}
