package format

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Kinds of checkpoints.
const (
	Template = "template" // a booted guest that nobody has used yet
	Full     = "full"     // a sandbox with everything of its user
)

// Limits of a header.
const (
	MaxRegions = 64
	MaxDevices = 1024
	MaxVCPUs   = 1024
	// MaxMemory bounds the memory of a checkpoint, in bytes.
	MaxMemory = 1 << 42
)

// PageSize is what addresses and sizes of regions are multiples of, in bytes.
const PageSize = 4096

// Header says what a checkpoint is of.
type Header struct {
	Created time.Time `json:"created"`
	Kind    string    `json:"kind"`    // [Template] or [Full]
	Host    Host      `json:"host"`    // where the state of the processors is good
	Profile string    `json:"profile"` // of the processors that the guest sees
	Kernel  string    `json:"kernel"`  // digest of the guest's kernel
	Agent   string    `json:"agent"`   // digest of the guest's agent
	VCPUs   int       `json:"vcpus"`
	// MaxVCPUs is how many processors the machine can have; at least VCPUs.
	MaxVCPUs int      `json:"max_vcpus"`
	Regions  []Region `json:"regions"` // ascending, not overlapping
	Devices  []string `json:"devices"` // in their order on the bus
	// Shape is what else the caller wants to know again; it is compacted.
	Shape json.RawMessage `json:"shape,omitempty"`
}

// Host is what of a host the state of a processor depends on.
type Host struct {
	Vendor   string `json:"vendor"` // as CPUID spells it
	Family   int    `json:"family"`
	Model    int    `json:"model"`
	Stepping int    `json:"stepping"`
	// Features is a digest of what else matters: features, registers, hypervisor.
	Features string `json:"features"`
}

// String names the processor, without its features.
func (h Host) String() string {
	return fmt.Sprintf("%s family %d model %d stepping %d", h.Vendor, h.Family, h.Model, h.Stepping)
}

// Region is a range of the guest's RAM, in bytes; both are multiples of [PageSize].
type Region struct {
	Address uint64 `json:"address"`
	Size    uint64 `json:"size"`
}

// MemorySize is the size of all regions, in bytes.
func (h Header) MemorySize() int64 {
	var n uint64
	for _, r := range h.Regions {
		n += r.Size
	}
	return int64(n)
}

// validate checks that sums and offsets of the header's numbers cannot overflow.
func (h Header) validate() error {
	switch {
	case h.Kind != Template && h.Kind != Full:
		return fmt.Errorf("unknown kind %q", h.Kind)
	case h.VCPUs < 1 || h.MaxVCPUs < h.VCPUs || h.MaxVCPUs > MaxVCPUs:
		return fmt.Errorf("%d of %d processors", h.VCPUs, h.MaxVCPUs)
	case len(h.Regions) == 0 || len(h.Regions) > MaxRegions:
		return fmt.Errorf("%d regions of memory", len(h.Regions))
	case len(h.Devices) > MaxDevices:
		return fmt.Errorf("%d devices", len(h.Devices))
	}
	var total, end uint64
	for i, r := range h.Regions {
		switch {
		case r.Address%PageSize != 0 || r.Size%PageSize != 0 || r.Size == 0,
			r.Size > MaxMemory-total, r.Address > math.MaxUint64-r.Size:
			return fmt.Errorf("region of %d bytes at %#x", r.Size, r.Address)
		case i > 0 && r.Address < end:
			return fmt.Errorf("region at %#x begins inside another one", r.Address)
		}
		total, end = total+r.Size, r.Address+r.Size
	}
	return nil
}
