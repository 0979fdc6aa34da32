//go:build !linux || !amd64

package runtime

import (
	"errors"
	"fmt"
	"runtime"
)

// newMachine says that there is no machine monitor for this platform yet.
func newMachine(MachineConfig) (Machine, error) {
	return nil, fmt.Errorf("sandboxes on %s/%s: %w: use Linux on x86-64", runtime.GOOS, runtime.GOARCH, errors.ErrUnsupported)
}

// buildTemplate says the same.
func buildTemplate([]string) int {
	_, err := newMachine(MachineConfig{})
	return complain(exitFailed, err)
}
