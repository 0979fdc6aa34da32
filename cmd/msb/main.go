package main

import (
	"os"
	"runtime/debug"

	"github.com/gomsb/gomsb/cmd/msb/internal/cli"
	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	"github.com/gomsb/gomsb/internal/runtime"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "sandbox" {
		os.Exit(runtime.Main(os.Args[2:]))
	}
	debug.SetGCPercent(growth)
	// The runtime of a sandbox is this very program, unless the user wants another.
	if self, err := os.Executable(); err == nil && os.Getenv("MSB_PATH") == "" {
		_ = os.Setenv("MSB_PATH", self)
	}
	os.Exit(cli.Main(os.Args[1:], ui.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}

// growth is that of the heap between collections, per cent. Few commands live long enough
// for one to be worth its time.
const growth = 400
