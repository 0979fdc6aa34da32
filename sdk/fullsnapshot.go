package microsandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gomsb/gomsb/internal/atomicfile"
	"github.com/gomsb/gomsb/internal/store"
	"github.com/gomsb/gomsb/snapshot"
	"github.com/gomsb/gomsb/snapshot/format"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

// checkpointExtension is the extension of a full snapshot's descriptor: what binds the files
// of its checkpoint to its identity, and what lists tell of it. Other releases pass over it,
// and see a snapshot of a disk.
const checkpointExtension = "gomsb.checkpoint"

// Files of a full snapshot's checkpoint that package checkpoint knows nothing of.
const (
	savedName  = "sandbox.json" // a savedSandbox
	originName = "origin"       // see originOf; it stays on the host
)

// maxSavedSize bounds the files that are read into memory, bytes.
const maxSavedSize = 16 << 20

// fullConfig describes a running sandbox as the source of a full snapshot, which is filled
// with what its runtime saves.
func (c *catalog) fullConfig(ctx context.Context, row store.Sandbox) (snapshot.Config, error) {
	if err := c.canBeSaved(ctx, row); err != nil {
		return snapshot.Config{}, err
	}
	cfg, err := snapshotConfigOf(row.Name, orDefault(row.ActiveConfig, row.Config))
	if err != nil {
		return cfg, err
	}
	saved, err := c.saved(ctx, row)
	if err != nil {
		return cfg, err
	}
	saved.Config = json.RawMessage(withoutValues(string(saved.Config)))
	if saved.Files, err = c.home.imageSums(ctx, cfg); err != nil {
		return cfg, err
	}
	f := &filling{catalog: c, row: row, saved: saved}
	cfg.Fill = f.fill
	return cfg, nil
}

// filling makes the content of one full snapshot.
type filling struct {
	*catalog
	row   store.Sandbox
	saved *savedSandbox
}

// fill implements snapshot.Config.Fill.
func (f *filling) fill(ctx context.Context, dir string) (map[string]any, error) {
	at := filepath.Join(dir, snapshot.CheckpointName)
	if err := f.save(ctx, f.row, at, format.Lasting); err != nil {
		return nil, err
	}
	k := &child{disks: f.saved.Disks}
	if err := k.goesOn(at, ""); err != nil {
		return nil, err
	}
	for i, d := range f.saved.Disks {
		if d.Guest == "" {
			if err := os.Rename(k.manifest.Disks[i].Path(at), filepath.Join(dir, snapshot.PayloadName)); err != nil {
				return nil, err
			}
		}
	}
	text, err := json.Marshal(f.saved)
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	if err := atomicfile.Write(filepath.Join(at, savedName), text, 0o600); err != nil {
		return nil, err
	}
	sums, err := checkpointSums(ctx, at)
	if err != nil {
		return nil, err
	}
	origin, err := f.home.originOf(sums)
	if err != nil {
		return nil, err
	}
	if err := atomicfile.Write(filepath.Join(at, originName), []byte(origin), 0o600); err != nil {
		return nil, err
	}
	if err := sparse.SyncDir(filepath.Join(at, "disks")); err != nil {
		return nil, err
	}
	e := map[string]any{"vcpus": decimalNumber(k.manifest.VCPUs), "memory_mib": decimalNumber(k.manifest.MaxMemoryMiB)}
	for name, sum := range sums {
		e[name] = sum
	}
	return map[string]any{checkpointExtension: e}, nil
}

func decimalNumber(n int) json.Number { return json.Number(fmt.Sprint(n)) }

// sumNames are the keys of the extension for the sums of files, and the files.
var sumNames = map[string]string{"manifest": "manifest.json", "sandbox": savedName, "machine": "machine/machine"}

// checkpointSums are the sums that bind a checkpoint to a snapshot's identity. That of the
// machine covers the checksums of memory, and the manifest has those of disks.
func checkpointSums(ctx context.Context, dir string) (map[string]string, error) {
	sums := map[string]string{}
	for key, name := range sumNames {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if info, err := os.Lstat(path); err != nil {
			return nil, err
		} else if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s: %w", path, sparse.ErrNotRegular)
		}
		sum, err := fileSum(ctx, path)
		if err != nil {
			return nil, err
		}
		sums[key] = sum
	}
	return sums, nil
}
