package format

import (
	"os"
	"slices"
	"strings"
)

// Names of the files of a checkpoint.
const (
	machineName  = "machine"
	memoryName   = "memory"
	sealName     = "seal"
	prefetchName = "prefetch"
)

// stagingSuffix ends the names of directories in which checkpoints are made.
const stagingSuffix = ".checkpoint"

// ours reports that a directory holds nothing but parts of a checkpoint.
func ours(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return !isPart(e.Name()) })
}

// isPart reports the name of a file of a checkpoint, or of one that was about to become
// it: a file that is replaced has ".NAME.*" for a while.
func isPart(name string) bool {
	if hidden, is := strings.CutPrefix(name, "."); is {
		name, _, _ = strings.Cut(hidden, ".")
	}
	return slices.Contains([]string{machineName, memoryName, sealName, prefetchName}, name)
}
