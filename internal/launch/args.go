package launch

import (
	"fmt"
	"strconv"
	"strings"
)

// flagName cuts the value from --flag=value.
func flagName(arg string) string {
	name, _, _ := strings.Cut(arg, "=")
	return name
}

// flagSet is a long-options-only parser: "--flag value", "--flag=value" and switches.
// Each flag but those of lists may be given once, which is what a program that generates
// them does.
type flagSet struct {
	values   map[string]func(string) error
	lists    map[string]func(string) error
	switches map[string]func()
}

func (s *flagSet) parse(args []string) error {
	seen := make(map[string]bool)
	for i := 0; i < len(args); i++ {
		name, value, inline := strings.Cut(args[i], "=")
		if seen[name] {
			return usagef("%s is given twice", name)
		}
		seen[name] = true
		if set, ok := s.switches[name]; ok && !inline {
			set()
			continue
		}
		set, ok := s.values[name]
		if list, many := s.lists[name]; many {
			set, ok, seen[name] = list, true, false
		}
		if !ok {
			return usagef("unexpected argument %q", args[i])
		}
		if !inline {
			if i++; i == len(args) {
				return usagef("%s needs a value", name)
			}
			value = args[i]
		}
		if err := set(value); err != nil {
			return usagef("%s %q: %v", name, value, err)
		}
	}
	return nil
}

type integer interface {
	~int | ~int32 | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// number returns a setter of a non-negative integer of the given size.
func number[T integer](dst *T, bits int) func(string) error {
	return func(s string) error {
		n, err := strconv.ParseUint(s, 10, bits)
		if err != nil {
			return fmt.Errorf("want a number below 2^%d", bits)
		}
		*dst = T(n)
		return nil
	}
}

func text(dst *string) func(string) error {
	return func(s string) error {
		if s == "" {
			return fmt.Errorf("want a value")
		}
		*dst = s
		return nil
	}
}

// parse0618 reads the dialect of 0.6.18, with our additions: --kernel and --restore.
func parse0618(args []string) (*Invocation, error) {
	inv := &Invocation{ConfigFD: -1, ParentWatchFD: -1, StartupFD: -1, LifecycleLockFD: -1}
	level := func(l string) func() { return func() { inv.LogLevel = l } }
	set := flagSet{
		switches: map[string]func(){
			"--error": level("error"), "--warn": level("warn"), "--info": level("info"),
			"--debug": level("debug"), "--trace": level("trace"),
		},
		values: map[string]func(string) error{
			"--log-level":         text(&inv.LogLevel),
			"--name":              text(&inv.Name),
			"--sandbox-id":        number(&inv.SandboxID, 31),
			"--vcpus":             number(&inv.VCPUs, 8),
			"--memory-mib":        number(&inv.MemoryMiB, 32),
			"--max-vcpus":         number(&inv.MaxVCPUs, 8),
			"--max-memory-mib":    number(&inv.MaxMemoryMiB, 32),
			"--parent-watch-fd":   number(&inv.ParentWatchFD, 31),
			"--startup-fd":        number(&inv.StartupFD, 31),
			"--config-fd":         number(&inv.ConfigFD, 31),
			"--config-file":       text(&inv.ConfigFile),
			"--lifecycle-lock-fd": number(&inv.LifecycleLockFD, 31),
			"--kernel":            text(&inv.Kernel),
			"--restore":           text(&inv.Restore),
		},
	}
	if err := set.parse(args); err != nil {
		return nil, err
	}
	if err := inv.Validate(); err != nil {
		return nil, err
	}
	return inv, nil
}
