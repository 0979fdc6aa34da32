//go:build linux

// Command pack puts the guest agent's binary into the EROFS image that guests boot from.
// It is a developer's program and may import anything; no other package may import it.
package main
