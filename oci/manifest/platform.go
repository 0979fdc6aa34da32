package manifest

// Platform is what an image must run on; Variant is usually "".
type Platform struct {
	OS, Architecture, Variant string
}

// String returns "os/arch" or "os/arch/variant".
func (p Platform) String() string {
	if p.Variant == "" {
		return p.OS + "/" + p.Architecture
	}
	return p.OS + "/" + p.Architecture + "/" + p.Variant
}

// runsOn reports whether an image that states have can run on p; what it leaves open
// fits. The variant is a preference among several images, not a condition.
func (p Platform) runsOn(have Platform) bool {
	return (have.OS == "" || have.OS == p.OS) && (have.Architecture == "" || have.Architecture == p.Architecture)
}
