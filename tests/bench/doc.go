//go:build linux

// Command bench runs the same steps with two msb commands, ours and the official one of
// the same version, in turns within one run, and prints how their medians relate:
//
//	bench OURS THEIRS IMAGE ROUNDS
//
// Machines differ, emulated ones most of all, so ratios are the only result; the phases
// of our own boot are printed as shares. IMAGE is the docker archive of mini:latest. It
// may import the standard library only and must never import the product: both sides are
// driven by their command lines.
package main
