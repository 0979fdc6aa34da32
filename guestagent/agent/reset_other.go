//go:build linux && !amd64

package agent

// pulseReset does nothing: only PCs have the line.
func pulseReset() {}
