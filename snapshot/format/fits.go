package format

import (
	"fmt"
	"slices"
	"strings"
)

// Difference is one thing in which a checkpoint is not what is wanted.
type Difference struct {
	What       string // such as "guest kernel"
	Have, Want string // of the checkpoint, and here
	Advice     string // what would help
}

// MismatchError tells in what a checkpoint does not fit. It wraps [ErrMismatch].
type MismatchError struct {
	Differences []Difference // at least one
}

// Error names all differences, and what to do about the first.
func (e *MismatchError) Error() string {
	parts := make([]string, len(e.Differences))
	for i, d := range e.Differences {
		parts[i] = fmt.Sprintf("%s is %s, here %s", d.What, d.Have, d.Want)
	}
	return fmt.Sprintf("%v: its %s: %s", ErrMismatch, strings.Join(parts, "; its "), e.Differences[0].Advice)
}

// Unwrap makes the error an [ErrMismatch].
func (e *MismatchError) Unwrap() error { return ErrMismatch }

const (
	adviceHost  = "restore it on a host like the one it was made on, or make it anew here"
	adviceBuild = "use the gomsb that made it, or make it anew"
	adviceShape = "restore it with the settings it was made with"
)

// Fits reports whether a machine of want's host, profile, kernel, agent, processors,
// memory and devices can go on where the checkpoint was taken. The error is a
// [MismatchError]. Kind, time of creation and Shape are not compared.
func (h Header) Fits(want Header) error {
	var all []Difference
	differ := func(differs bool, what, have, here, advice string) {
		if differs {
			all = append(all, Difference{What: what, Have: have, Want: here, Advice: advice})
		}
	}
	cpu, other := h.Host, want.Host
	features := func(s string) string { return fmt.Sprintf("%.19q", s) }
	text := func(what, have, here, advice string) {
		differ(have != here, what, fmt.Sprintf("%q", have), fmt.Sprintf("%q", here), advice)
	}
	differ(cpu.String() != other.String(), "host processor", cpu.String(), other.String(), adviceHost)
	differ(cpu.Features != other.Features, "set of host features", features(cpu.Features), features(other.Features), adviceHost)
	text("CPU profile", h.Profile, want.Profile, adviceShape)
	text("guest kernel", h.Kernel, want.Kernel, adviceBuild)
	text("guest agent", h.Agent, want.Agent, adviceBuild)
	differ(h.VCPUs != want.VCPUs || h.MaxVCPUs != want.MaxVCPUs, "number of processors",
		fmt.Sprintf("%d of at most %d", h.VCPUs, h.MaxVCPUs), fmt.Sprintf("%d of at most %d", want.VCPUs, want.MaxVCPUs), adviceShape)
	differ(!slices.Equal(h.Regions, want.Regions), "memory", regions(h.Regions), regions(want.Regions), adviceShape)
	differ(!slices.Equal(h.Devices, want.Devices), "device list", strings.Join(h.Devices, " "), strings.Join(want.Devices, " "), adviceShape)
	if all == nil {
		return nil
	}
	return &MismatchError{Differences: all}
}

func regions(rs []Region) string {
	parts := make([]string, len(rs))
	for i, r := range rs {
		parts[i] = fmt.Sprintf("%d MiB at %#x", r.Size>>20, r.Address)
		if r.Size%(1<<20) != 0 {
			parts[i] = fmt.Sprintf("%d bytes at %#x", r.Size, r.Address)
		}
	}
	return strings.Join(parts, " and ")
}
