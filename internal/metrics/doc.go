// Package metrics is the registry of samples that all sandboxes of one home share: a
// POSIX shared-memory segment of slots, one for each sandbox. A controller reserves a slot
// and passes its number on; the runtime activates it, publishes a sample at every interval
// and releases it; anybody may read, without asking a runtime. It may import the standard
// library with x/sys; it must never measure anything itself, and never trust what another
// process left in the segment.
//
// # Layout
//
// The segment is that of microsandbox 0.6.18, version 3, in host byte order: a header of
// 256 bytes and slots of 512 bytes each; see layout.go. It has the name that [Name]
// derives from the home directory and is never unlinked. Every field is read and written
// atomically.
//
// # Who may touch a slot
//
// A generation, unique in the life of the segment, names one use of a slot. Whoever
// changes the slot checks that the generation is still the one it was given, takes the
// slot's sequence lock (an odd number means: being written), and checks again. A reader
// copies the fields between two looks at the sequence number and the generation, and tries
// again if either changed.
//
//	free --Reserve--> reserved --Activate--> active --Release--> stale --Reserve--> ...
//	                  reserved --Free------> free
//
// Reserve also takes over active and reserved slots whose holder was killed.
package metrics
