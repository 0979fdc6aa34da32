package template

import (
	"bufio"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/snapshot/format"
)

// Host is this host as far as a saved guest depends on it: its processor, and the version
// of its kernel, whose KVM chooses what of the processor guests see. On a host without
// virtualization hardware, whose time-stamp counter guests share, also this boot of it: the
// counter must not be behind what a guest saw of it.
func Host() (format.Host, error) {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return format.Host{}, fmt.Errorf("describe the host: %w", err)
	}
	defer func() { _ = f.Close() }()
	var h format.Host
	sum, hardware := sha256.New(), false
	s := bufio.NewScanner(f)
	for s.Scan() && s.Text() != "" { // the first processor
		name, value, _ := strings.Cut(s.Text(), ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "vendor_id":
			h.Vendor = value
		case "cpu family":
			h.Family, _ = strconv.Atoi(value)
		case "model":
			h.Model, _ = strconv.Atoi(value)
		case "stepping":
			h.Stepping, _ = strconv.Atoi(value)
		case "flags":
			flags := strings.Fields(value)
			hardware = slices.Contains(flags, "vmx") || slices.Contains(flags, "svm")
			fallthrough
		case "model name", "microcode", "bugs":
			_, _ = fmt.Fprintln(sum, value) // never fails
		}
	}
	if err := s.Err(); err != nil {
		return format.Host{}, fmt.Errorf("describe the host: %w", err)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return format.Host{}, fmt.Errorf("describe the host: %w", err)
	}
	_, _ = sum.Write(u.Release[:])
	_, _ = sum.Write(u.Version[:])
	if !hardware {
		id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return format.Host{}, fmt.Errorf("describe the host: %w", err)
		}
		_, _ = sum.Write(id)
	}
	h.Features = hex.EncodeToString(sum.Sum(nil))
	return h, nil
}

// Build identifies this program by the build ID that the linker gave it, which changes
// with every byte of its sources.
func Build() (string, error) {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("identify this program: %w", err)
	}
	defer func() { _ = f.Close() }()
	note := f.Section(".note.go.buildid")
	if note == nil {
		return "", fmt.Errorf("identify this program: it has no Go build ID")
	}
	b, err := note.Data()
	if err != nil {
		return "", fmt.Errorf("identify this program: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}
