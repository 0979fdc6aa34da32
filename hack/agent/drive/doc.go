//go:build linux

// Command drive is the host of one guest that hack/agent/boot.sh boots under QEMU: it
// brings the agent to ready with the runtime's own relay, tries what only a real guest
// has, and shuts it down. It is a developer's program and may import anything; no other
// package may import it.
package main
