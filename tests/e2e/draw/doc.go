//go:build linux

// Command draw asks the kernel for random bytes and for the time, hundreds of times a second,
// until it is told to end:
//
//	draw FILE
//
// FILE is there, empty, once it listens to SIGTERM. It has two workers, one of which asks
// through the vDSO and one by system calls. Each keeps its answers in memory, and after a
// SIGTERM writes them to FILE.0 or FILE.1 (see tests/e2e/draw/record). It may import that
// package, the standard library and x/sys, and must never write anything else before it
// ends.
package main
