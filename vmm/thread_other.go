//go:build !linux

package vmm

import "time"

func threadID() int { return 0 }

// threadCPUTime is not known here.
func threadCPUTime(int) time.Duration { return 0 }
