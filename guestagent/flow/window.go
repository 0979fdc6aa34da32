package flow

// Window is how much of one direction of a session may be under way. Methods are for one goroutine at a
// time.
type Window struct {
	size  uint64 // bytes
	taken uint64 // since the session began
	told  uint64 // the limit that the sender knows, or is about to
}

// NewWindow returns a window of size bytes, more than 0.
func NewWindow(size int) *Window { return &Window{size: uint64(size), told: uint64(size)} }

// Take notes that n bytes have been taken, and reports whether it is time to tell the
// sender a new limit.
func (w *Window) Take(n int) (limit uint64, tell bool) {
	w.taken += uint64(n)
	if w.taken+w.size-w.told < max(w.size/4, 1) {
		return w.told, false
	}
	w.told = w.taken + w.size
	return w.told, true
}
