//go:build linux

package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// check is one thing to find out about a file system: by a script or by a function, which
// work in a directory of their own.
type check struct {
	name   string
	script string
	run    func(dir string) error
}

func main() {
	only := flag.String("run", "", "run the checks whose names match")
	var o options
	flag.BoolVar(&o.brief, "brief", false, "name the checks that fail only")
	flag.BoolVar(&o.keep, "keep", false, "leave what the checks have made")
	flag.Parse()
	if flag.NArg() == 2 && flag.Arg(0) == waitArg {
		wait(flag.Arg(1))
		return
	}
	var err error
	o.only, err = regexp.Compile(*only)
	if err != nil || flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: posix [-run REGEXP] [-brief] [-keep] DIRECTORY")
		os.Exit(2)
	}
	failed, err := runAll(os.Stdout, flag.Arg(0), o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "posix:", err)
		os.Exit(2)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

type options struct {
	only        *regexp.Regexp // nil is all
	brief, keep bool
}

func runAll(w io.Writer, root string, o options) (failed int, err error) {
	if root, err = filepath.Abs(root); err != nil {
		return 0, err
	}
	runtime.LockOSThread() // whose user changes
	defer runtime.UnlockOSThread()
	defer unix.Umask(unix.Umask(0))
	n := 0
	for i, c := range checks() {
		if o.only != nil && !o.only.MatchString(c.name) {
			continue
		}
		n++
		dir := filepath.Join(root, "posix"+strconv.Itoa(i))
		if err := os.Mkdir(dir, 0o777); err != nil {
			return failed, err
		}
		if err := c.do(dir); err != nil {
			failed++
			fmt.Fprintf(w, "FAIL %s: %v\n", c.name, err)
		} else if !o.brief {
			fmt.Fprintf(w, "ok %s\n", c.name)
		}
		if o.brief && n%50 == 0 {
			fmt.Fprintf(w, "%d checks so far\n", n)
		}
		if o.keep {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			failed++
			fmt.Fprintf(w, "FAIL %s: cannot be cleaned up: %v\n", c.name, err)
		}
	}
	_, err = fmt.Fprintf(w, "%d checks, %d failed\n", n, failed)
	return failed, err
}

func (c *check) do(dir string) error {
	if c.run != nil {
		return c.run(dir)
	}
	s := script{dir: dir}
	return s.run(c.script)
}

// checks are all checks, their names unique.
func checks() []check {
	var all []check
	for _, list := range [][]check{pathChecks(), typeChecks(), timeChecks(), permissionChecks(), renameChecks(), openChecks(), contentChecks(), directoryChecks(), attributeChecks()} {
		all = append(all, list...)
	}
	slices.SortStableFunc(all, func(a, b check) int { return strings.Compare(a.name, b.name) })
	return all
}
