//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: bench load|run|network OURS THEIRS ROUNDS IMAGE [IMAGE ...]")

func run(args []string) error {
	if len(args) == 4 && args[0] == "get" {
		return get(args[1], args[2], args[3] == "keep")
	}
	if len(args) < 5 || args[0] != "load" && args[0] != "run" && args[0] != "network" {
		return errUsage
	}
	rounds, err := strconv.Atoi(args[3])
	if err != nil {
		return errUsage
	}
	return bench(args[0], args[1], args[2], rounds, args[4:])
}

func bench(what, ours, theirs string, rounds int, images []string) error {
	root, err := os.MkdirTemp("", "gomsb-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	v, err := startServers(what == "network")
	if err != nil {
		return err
	}
	defer v.stop()
	a, b := newSide("ours", ours, root), newSide("theirs", theirs, root)
	r := newReport(a.name, b.name)
	defer r.print(os.Stdout) // what there is, after a failure too
	for n := range rounds {
		fmt.Fprintf(os.Stderr, "bench: round %d of %d\n", n+1, rounds)
		sides := []*side{a, b}
		if n%2 == 1 { // who is second may find a warmer machine
			slices.Reverse(sides)
		}
		if what == "network" {
			if err := network(r, v, sides, images[0], n == 0); err != nil {
				return err
			}
			continue
		}
		for _, s := range sides {
			if what == "load" {
				err = s.loads(r, images)
			} else {
				err = s.round(r, images[0], n == 0)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
