package microsandbox

import "slices"

// CPUPlacement is a wish where virtual processors run, by what other sandboxes of the same
// data root have chosen. Where there are fewer of the host's processors than a sandbox may
// have, it runs anywhere.
type CPUPlacement string

// CPU placements; the default is CPUPlacementInherit.
const (
	CPUPlacementInherit CPUPlacement = "inherit" // wherever this process may run
	CPUPlacementAuto    CPUPlacement = "auto"    // all on one NUMA node, the one with the most room
	CPUPlacementSpread  CPUPlacement = "spread"  // each on a core of its own
	CPUPlacementCompact CPUPlacement = "compact" // all on as few cores as they need
)

// WithCPUPlacement says where virtual processors should run.
func WithCPUPlacement(p CPUPlacement) SandboxOption {
	return func(c *SandboxConfig) { c.CPUPlacement = p }
}

// WithPlacementProfile chooses a placement profile by its name. This release knows none:
// any is ErrUnsupportedOperation.
func WithPlacementProfile(name string) SandboxOption {
	return func(c *SandboxConfig) { c.PlacementProfile = name }
}

func (c *SandboxConfig) validatePlacement() error {
	if c.PlacementProfile != "" {
		return fail(ErrUnsupportedOperation, "placement profile %q: this release knows none: use WithCPUPlacement", c.PlacementProfile)
	}
	if !slices.Contains([]CPUPlacement{"", CPUPlacementInherit, CPUPlacementAuto, CPUPlacementSpread, CPUPlacementCompact}, c.CPUPlacement) {
		return fail(ErrInvalidConfig, "unknown CPU placement %q: use inherit, auto, spread or compact", c.CPUPlacement)
	}
	return nil
}

// document is the placement in documents, which leave the default out.
func (p CPUPlacement) document() string {
	if p == CPUPlacementInherit {
		return ""
	}
	return string(p)
}
