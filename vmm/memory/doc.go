// Package memory is the guest's RAM: private anonymous mappings of the host, addressed
// by guest-physical address, every access checked to its end.
//
// It may import the standard library and x/sys; it must never interpret what is in the
// memory. What it hands out is shared with a guest that changes it at any time: read a
// value once, then check it.
package memory
