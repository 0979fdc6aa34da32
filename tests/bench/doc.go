//go:build linux

// Command bench runs the same steps with two msb commands, ours and the official one of
// the same version, in turns within one run, and prints how their medians relate:
//
//	bench load OURS THEIRS ROUNDS IMAGE...
//	bench run OURS THEIRS ROUNDS IMAGE
//	bench network OURS THEIRS ROUNDS IMAGE
//
// The first loads docker archives, each time into an empty cache, and needs no virtual
// machine; the second runs sandboxes, of mini:latest in the docker archive IMAGE.
// The third measures their network, of iperf:latest. "bench get" is its other half, in the guest.
// Machines differ, emulated ones most of all, so ratios are the only result; the phases
// of our own boot are printed as shares. docs/performance.md says what is measured. It
// may import the standard library only and must never import the product: both sides are
// driven by their command lines.
package main
