package microsandbox

import (
	"os"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/runtime"
)

// A program that imports this package and finds no msb command is its own runtime: it
// is started a second time with launch.SelfEnv set. Only an init can notice that before
// the program's own main, which knows nothing of it; this is the one init in the
// module, and all it costs anybody else is a look at the environment.
func init() {
	if !startedAsRuntime(os.Args, os.Getenv) {
		return
	}
	_ = os.Unsetenv(launch.SelfEnv) // meant for this process, not for its children
	os.Exit(runtime.Main(os.Args[2:]))
}

// startedAsRuntime reports that this process is to be a sandbox. An argument "sandbox"
// alone is the program's own.
func startedAsRuntime(args []string, getenv func(string) string) bool {
	return len(args) > 1 && args[1] == "sandbox" && getenv(launch.SelfEnv) == "1"
}
