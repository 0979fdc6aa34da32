//go:build linux

package main

import (
	"fmt"
	"os"
	"strconv"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: bench OURS THEIRS IMAGE ROUNDS")
		os.Exit(2)
	}
	rounds, err := strconv.Atoi(os.Args[4])
	if err == nil {
		err = bench(os.Args[1], os.Args[2], os.Args[3], rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ours, theirs, image string, rounds int) error {
	root, err := os.MkdirTemp("", "gomsb-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	a, b := newSide("ours", ours, root), newSide("theirs", theirs, root)
	r := newReport(a.name, b.name)
	for _, s := range []*side{a, b} {
		if err := s.load(r, image); err != nil {
			return err
		}
	}
	for n := range rounds {
		fmt.Fprintf(os.Stderr, "bench: round %d of %d\n", n+1, rounds)
		for _, s := range []*side{a, b} {
			if err := s.round(r); err != nil {
				return err
			}
		}
	}
	r.print(os.Stdout)
	return nil
}
