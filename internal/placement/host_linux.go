package placement

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// host lists the processors that this process may run on; dir is sysfs's folder of them.
func host(dir string) ([]CPU, error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return nil, os.NewSyscallError("sched_getaffinity", err)
	}
	var all []CPU
	for id := range len(allowed) * strconv.IntSize {
		if allowed.IsSet(id) {
			all = append(all, describe(dir, id))
		}
	}
	return all, nil
}

// describe finds out where a processor is. What a host does not tell does not matter there:
// then the processor is a core of its own on node 0.
func describe(dir string, id int) CPU {
	c := CPU{ID: id, Core: id}
	dir = filepath.Join(dir, "cpu"+strconv.Itoa(id))
	for _, name := range []string{"core_cpus_list", "thread_siblings_list"} { // the second before Linux 5.3
		b, err := os.ReadFile(filepath.Join(dir, "topology", name))
		if err != nil {
			continue
		}
		first, _, _ := strings.Cut(strings.TrimSpace(string(b)), ",")
		first, _, _ = strings.Cut(first, "-")
		if n, err := strconv.Atoi(first); err == nil {
			c.Core = n
		}
		break
	}
	nodes, _ := filepath.Glob(filepath.Join(dir, "node[0-9]*"))
	for _, n := range nodes {
		if n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(n), "node")); err == nil {
			c.Node = n
		}
	}
	return c
}
