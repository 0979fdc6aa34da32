//go:build linux

package main

import (
	"fmt"
	"os"
	"strconv"
)

func main() {
	if len(os.Args) < 6 || os.Args[1] != "load" && os.Args[1] != "run" {
		fmt.Fprintln(os.Stderr, "usage: bench load|run OURS THEIRS ROUNDS IMAGE...")
		os.Exit(2)
	}
	rounds, err := strconv.Atoi(os.Args[4])
	if err == nil {
		err = bench(os.Args[1], os.Args[2], os.Args[3], rounds, os.Args[5:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(what, ours, theirs string, rounds int, images []string) error {
	root, err := os.MkdirTemp("", "gomsb-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	a, b := newSide("ours", ours, root), newSide("theirs", theirs, root)
	r := newReport(a.name, b.name)
	for n := range rounds {
		fmt.Fprintf(os.Stderr, "bench: round %d of %d\n", n+1, rounds)
		for _, s := range []*side{a, b} {
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
	r.print(os.Stdout)
	return nil
}
