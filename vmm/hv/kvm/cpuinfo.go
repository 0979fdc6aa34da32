package kvm

import (
	"bufio"
	"os"
	"slices"
	"strings"
)

const cpuinfoPath = "/proc/cpuinfo"

// processorVirtualizes reports whether the first processor in the kernel's list at path
// has Intel's or AMD's virtualization extension. It reads no further than that one.
func processorVirtualizes(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	s := bufio.NewScanner(f)
	for s.Scan() {
		name, value, ok := strings.Cut(s.Text(), ":")
		if ok && strings.TrimSpace(name) == "flags" {
			flags := strings.Fields(value)
			return slices.Contains(flags, "vmx") || slices.Contains(flags, "svm")
		}
	}
	return false
}
