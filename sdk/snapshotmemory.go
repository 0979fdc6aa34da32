package microsandbox

import (
	"encoding/json"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/gomsb/gomsb/snapshot"
)

// SnapshotMemory tells of the machine in a full snapshot.
type SnapshotMemory struct {
	VCPUs     int   `json:"vcpus"`
	MemoryMiB int   `json:"memory_mib"` // that it has at most
	SizeBytes int64 `json:"size_bytes"` // that its files take on the host now, without the root's disk
}

// snapshotMemory is what a snapshot has of a machine, nil for none.
func snapshotMemory(a *snapshot.Artefact) *SnapshotMemory {
	e, _ := a.Descriptor.Extensions[checkpointExtension].(map[string]any)
	if e == nil || a.Checkpoint() == "" {
		return nil
	}
	number := func(key string) int {
		n, _ := e[key].(json.Number)
		v, _ := n.Int64() // 0 for none
		return int(v)
	}
	m := &SnapshotMemory{VCPUs: number("vcpus"), MemoryMiB: number("memory_mib")}
	_ = filepath.WalkDir(a.Checkpoint(), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // as far as it can be told
		}
		if info, err := d.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				m.SizeBytes += st.Blocks * 512
			}
		}
		return nil
	})
	return m
}
