package placement

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gomsb/gomsb/internal/filelock"
)

const (
	// plannerName is the file that is locked while somebody chooses.
	plannerName = "gomsb-planner.lock"
	// Leases are called so; each is locked as long as it is good.
	leasePrefix, leaseSuffix = "gomsb-", ".json"

	// patience is how long others may take to choose.
	patience = 2 * time.Second
	// maxLease bounds what is read of a lease, in bytes.
	maxLease = 64 << 10

	sysfs = "/sys/devices/system/cpu"
)

// Lease is a plan that others take into account until it is closed.
type Lease struct {
	Plan
	file *os.File
}

// Place chooses where n virtual processors may run, by what others have chosen who have
// their leases in dir too, which is made if it is missing. A nil lease means anywhere.
func Place(dir, policy string, n int) (*Lease, error) {
	if policy == Inherit {
		return nil, nil
	}
	cpus, err := host(sysfs)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return nil, err
	}
	planner, err := os.OpenFile(filepath.Join(dir, plannerName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = planner.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := filelock.Wait(ctx, planner); err != nil {
		return nil, err
	}
	used, err := inUse(dir)
	if err != nil {
		return nil, err
	}
	l := &Lease{Plan: choose(policy, n, cpus, used)}
	if l.Sets == nil {
		return nil, nil
	}
	if err := l.record(dir); err != nil {
		return nil, err
	}
	return l, nil
}

// record writes the lease down. The planner's lock keeps others from taking it for one
// that is over.
func (l *Lease) record(dir string) error {
	b, err := json.Marshal(l.Use)
	if err != nil {
		return err
	}
	if l.file, err = os.CreateTemp(dir, leasePrefix+"*"+leaseSuffix); err != nil {
		return err
	}
	locked, err := filelock.Try(l.file)
	if err == nil && !locked {
		err = fmt.Errorf("%s is locked by somebody else", l.file.Name())
	}
	if err == nil {
		_, err = l.file.Write(b)
	}
	if err != nil {
		err = errors.Join(err, l.Close())
	}
	return err
}

// Close ends the lease. It does nothing to a nil one.
func (l *Lease) Close() error {
	if l == nil || l.file == nil {
		return nil
	}
	return errors.Join(os.Remove(l.file.Name()), l.file.Close())
}

// inUse adds up the leases that are good, and removes those that are over. The caller has
// the planner's lock.
func inUse(dir string) (map[int]float64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	used := make(map[int]float64)
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), leasePrefix) || !strings.HasSuffix(e.Name(), leaseSuffix) {
			continue
		}
		if err := add(used, filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return used, nil
}

// add adds one lease, or removes it.
func add(used map[int]float64, path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	over, err := filelock.Try(f)
	if err != nil {
		return err
	}
	if over {
		return os.Remove(path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxLease))
	if err != nil {
		return err
	}
	var use map[int]float64
	if json.Unmarshal(b, &use) != nil {
		return nil // of another release: it does not count
	}
	for id, n := range use {
		used[id] += n
	}
	return nil
}
