package snapshot

import (
	"os"
	"path/filepath"
	"strings"
)

// CheckpointName is the directory of an artefact that has, beside the payload, what a
// machine needs to go on. This package knows nothing of its content.
const CheckpointName = "checkpoint"

// Checkpoint is the directory of the machine's memory, empty if the artefact has none.
func (a *Artefact) Checkpoint() string {
	path := filepath.Join(a.Path, CheckpointName)
	if info, err := os.Lstat(path); err != nil || !info.IsDir() {
		return ""
	}
	return path
}

// isCheckpointName reports the name of a checkpoint, or of one that is on its way there.
func isCheckpointName(name string) bool {
	return name == CheckpointName || strings.HasPrefix(name, "."+CheckpointName+".")
}
