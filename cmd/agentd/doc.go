//go:build linux

// Command agentd is PID 1 of every guest; everything it does is in package
// guestagent/agent. It may import that package only; it must never grow flags of its own.
package main
