//go:build linux

// The runtime need not watch control groups: PID 1 is in none that limits it.
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

package main

import (
	"os"

	"github.com/gomsb/gomsb/guestagent/agent"
	"github.com/gomsb/gomsb/guestagent/agent/hostlink"
	"github.com/gomsb/gomsb/guestagent/proto"
)

func main() {
	os.Exit(agent.Main(agent.Options{Version: proto.Release, Dial: hostlink.Dial}))
}
