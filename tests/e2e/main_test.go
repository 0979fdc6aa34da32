//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// The suite's environment, set by hack/e2e.
const (
	dataEnv   = "E2E_DATA"   // folder that tests/e2e/prepare made
	fullEnv   = "E2E_FULL"   // if set, do also what takes emulated machines many minutes
	helperEnv = "E2E_HELPER" // this process is a helper of a test, not the suite
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(helperEnv); mode != "" {
		os.Exit(helper(mode, os.Getenv(helperEnv+"_NAME")))
	}
	for _, name := range []string{dataEnv, "MSB_PATH", "MSB_HOME"} {
		if os.Getenv(name) == "" {
			fmt.Fprintf(os.Stderr, "%s is not set: run hack/e2e\n", name)
			os.Exit(2)
		}
	}
	code := m.Run()
	if os.Getenv(networkEnv) != "" {
		os.Exit(code) // the shared sandbox is the other process's
	}
	if err := releaseShared(); err != nil {
		fmt.Fprintln(os.Stderr, "shared sandbox:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func data(name string) string { return filepath.Join(os.Getenv(dataEnv), name) }

func homePath(parts ...string) string {
	return filepath.Join(append([]string{os.Getenv("MSB_HOME")}, parts...)...)
}

// rounds is how often something is done that takes long: few times, or many if all is to be
// done.
func rounds(few, many int) int {
	if os.Getenv(fullEnv) != "" {
		return many
	}
	return few
}
