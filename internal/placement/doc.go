// Package placement chooses on which of the host's processors the virtual ones of a sandbox
// may run, so that sandboxes of one data root share the host well. What each has chosen is
// in a folder of leases, which end with their process however that ends.
//
// It imports internal/filelock, the standard library and golang.org/x/sys. It must never
// keep a sandbox from starting: whoever cannot be placed runs where the host's scheduler
// puts it.
package placement
