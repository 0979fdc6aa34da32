//go:build linux

package spawn

import (
	"os"
	"strconv"
)

// Scores of the OOM killer (Documentation/filesystems/proc.rst): the lowest means never.
const (
	neverKill = "-1000"
	asUsual   = "0"
)

// ProtectFromOOM keeps the OOM killer away from this process. PID 1 needs none of it: the
// kernel never chooses it. Children inherit the protection, see [UnscoreOOM].
func ProtectFromOOM() error { return os.WriteFile("/proc/self/oom_score_adj", []byte(neverKill), 0) }

// UnscoreOOM takes the protection from a child. One that has ended needs it no more.
func UnscoreOOM(pid int) {
	_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte(asUsual), 0)
}
