// Package runtimetest runs a sandbox's runtime over a fake machine, in which only the
// guest's agent lives (package guesttest). Tests of controllers start their own binary
// as such a runtime. It may import runtime and guesttest; no program may import it.
package runtimetest
