package flow

// Window is how much of one session may be under way. Methods are for one goroutine at a
// time.
type Window struct {
	size  uint64 // bytes
	taken uint64 // since the session began
	told  uint64 // the limit that the guest knows, or is about to
}

// NewWindow returns a window of size bytes, more than 0.
func NewWindow(size int) *Window { return &Window{size: uint64(size), told: uint64(size)} }

// take reports whether it is time to raise the guest's limit, to told.
func (w *Window) take(n uint64) bool {
	w.taken += n
	if w.taken+w.size-w.told < max(w.size/4, 1) {
		return false
	}
	w.told = w.taken + w.size
	return true
}
