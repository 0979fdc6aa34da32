//go:build !linux

package vmm

import "time"

func threadID() int { return 0 }

// setAffinity does nothing here.
func setAffinity([]int) error { return nil }

// threadCPUTime is not known here.
func threadCPUTime(int) time.Duration { return 0 }
