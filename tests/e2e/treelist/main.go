//go:build linux

package main

import (
	"fmt"
	"os"

	"github.com/gomsb/gomsb/tests/e2e/tree"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: treelist ROOT [SKIP...]")
		os.Exit(2)
	}
	entries, err := tree.List(os.Args[1], os.Args[2:])
	if err == nil {
		err = tree.Write(os.Stdout, entries)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "treelist:", err)
		os.Exit(1)
	}
}
