package format

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gomsb/gomsb/internal/atomicfile"
	"github.com/gomsb/gomsb/internal/staging"
)

// Write makes a checkpoint at dir, in place of one that is there. Killed at any point it
// leaves dir as it was, and what it staged beside is removed by the next Write; when it
// fails nothing is left.
func Write(ctx context.Context, dir string, h Header, state []byte, mem Memory) error {
	d, err := Capture(ctx, dir, Lasting, h, state, mem)
	if err != nil {
		return err
	}
	return d.Publish(ctx)
}

// Draft is a checkpoint in the making, which has no name yet and is not durable. After Begin
// comes one successful Capture; it must end in one call of Publish or Discard, before its base
// is closed.
type Draft struct {
	dir      string
	lifetime Lifetime
	place    *staging.Dir
	memory   *os.File
	base     *Checkpoint // nil: none
	under    *layer      // what is captured is a layer on it; nil: whole
	ready    bool        // memory is a copy of base's
	based    bool        // what was captured is based on base
	machine  *machine    // nil before Capture
	sums     func(context.Context) ([]uint32, error)
}

// Begin makes a Draft for dir; the directory of dir is made if missing. All that can be done
// while the machine still runs is done: of one that was restored, base is what it was restored
// from, whose memory is copied unless the draft is to refer to it. base is nil for others.
func Begin(ctx context.Context, dir string, base *Checkpoint, lifetime Lifetime) (_ *Draft, err error) {
	defer wrap(&err, "begin", dir)
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := replaceable(dir); err != nil {
		return nil, err
	}
	d := &Draft{dir: dir, lifetime: lifetime, base: base}
	if base != nil && lifetime == Passing {
		d.under = base.under()
	}
	if d.place, err = staging.Make(dir, stagingSuffix, ours); err != nil {
		return nil, err
	}
	d.memory, err = os.OpenFile(filepath.Join(d.place.Path, memoryName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil && base != nil && d.under == nil {
		err = base.copyTo(ctx, d.memory)
		d.ready = true
	}
	if err != nil {
		return nil, errors.Join(err, d.Discard())
	}
	return d, nil
}

// On has the draft, of which nothing was captured yet, be based on base as if it was begun so,
// except that nothing of it is copied ahead.
func (d *Draft) On(base *Checkpoint) {
	d.base, d.under, d.ready = base, nil, false
	if base != nil && d.lifetime == Passing {
		d.under = base.under()
	}
}

// Size is how many bytes of a disk the captured memory takes.
func (d *Draft) Size() (int64, error) { return allocated(d.memory) }

// Capture copies a paused machine; then it may run on. It fails with [ErrHeader] for what no
// checkpoint can be made of, and with the cause of ctx; then it may be called again.
func (d *Draft) Capture(ctx context.Context, h Header, state []byte, mem Memory) (err error) {
	defer wrap(&err, "capture", d.dir)
	if err := h.validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrHeader, err)
	}
	h.Created = h.Created.Round(0).UTC()
	based, is := mem.(Based)
	if is && based.Base != d.base {
		return fmt.Errorf("%w: its base is not the draft's", ErrHeader)
	}
	l := &layer{own: []Range{{Length: h.MemorySize()}}}
	if is && d.under != nil {
		l, err = d.captureLayer(ctx, h, based)
	} else {
		err = d.captureWhole(ctx, h, mem)
	}
	if err != nil {
		return err
	}
	d.machine, d.based = &machine{header: h, state: state}, is
	if d.lifetime != Lasting {
		l.boot = thisBoot()
		d.machine.layer = l
	}
	return nil
}

// captureLayer copies what the machine has written.
func (d *Draft) captureLayer(ctx context.Context, h Header, mem Based) (*layer, error) {
	if err := d.memory.Truncate(0); err != nil {
		return nil, err
	}
	own, err := writeLayer(ctx, d.memory, h, mem)
	return &layer{base: d.under.base, state: d.under.state, own: own}, err
}

// captureWhole copies all of the memory, unless it is there already.
func (d *Draft) captureWhole(ctx context.Context, h Header, mem Memory) (err error) {
	_, is := mem.(Based)
	ready := d.ready
	d.ready = false // whatever happens
	if !is || !ready {
		if err := d.memory.Truncate(0); err != nil {
			return err
		}
	}
	if is && !ready {
		if err := d.base.copyTo(ctx, d.memory); err != nil {
			return err
		}
	}
	d.sums, err = writeMemory(ctx, d.memory, h, mem, d.lifetime == Lasting)
	return err
}

// Capture is Begin and Draft's Capture, for who has no use for the time between them.
func Capture(ctx context.Context, dir string, lifetime Lifetime, h Header, state []byte, mem Memory) (*Draft, error) {
	var base *Checkpoint
	if based, is := mem.(Based); is {
		base = based.Base
	}
	d, err := Begin(ctx, dir, base, lifetime)
	if err != nil {
		return nil, err
	}
	if err := d.Capture(ctx, h, state, mem); err != nil {
		return nil, errors.Join(err, d.Discard())
	}
	return d, nil
}

// wrap adds what was done, and to what, to an error.
func wrap(err *error, verb, dir string) {
	if *err != nil {
		*err = fmt.Errorf("%s checkpoint %s: %w", verb, dir, *err)
	}
}

// replaceable reports whether dir is free or a checkpoint.
func replaceable(dir string) error {
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && (!info.IsDir() || !ours(dir)) {
		err = ErrExists
	}
	return err
}

// Discard removes the draft.
func (d *Draft) Discard() error {
	var err error
	if d.memory != nil {
		err = d.memory.Close()
	}
	return errors.Join(err, d.place.Remove())
}

// Publish makes the draft durable, if it is to last, and gives it its name, in place of a
// checkpoint that has it. What is known of the first moments of its base's copies is taken over
// for its own. If it fails, with [ErrHeader] for a header and a state that are too large, or ctx
// ends before, the draft is removed.
func (d *Draft) Publish(ctx context.Context) (err error) {
	defer wrap(&err, "publish", d.dir)
	defer func() { err = errors.Join(err, d.Discard()) }() // by then it is what was replaced, or nothing
	if err := d.complete(ctx); err != nil {
		return err
	}
	if err := replaceable(d.dir); err != nil {
		return err
	}
	if d.lifetime != Lasting {
		return atomicfile.Move(d.place.Path, d.dir, true)
	}
	return atomicfile.Rename(d.place.Path, d.dir, true)
}

// complete writes the other files, those that last durably.
func (d *Draft) complete(ctx context.Context) (err error) {
	if d.machine == nil {
		return errors.New("nothing was captured")
	}
	lasting := d.lifetime == Lasting
	if lasting {
		if d.machine.sums, err = d.sums(ctx); err != nil {
			return err
		}
	}
	b, err := d.machine.encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.place.Path, machineName), b, 0o600); err != nil {
		return err
	}
	if lasting {
		if err := d.memory.Sync(); err != nil {
			return err
		}
		if err := syncFile(filepath.Join(d.place.Path, machineName)); err != nil {
			return err
		}
	}
	s, err := stateOf(d.memory)
	if err != nil {
		return err
	}
	write := os.WriteFile
	if lasting {
		write = atomicfile.Write
	}
	if err := write(filepath.Join(d.place.Path, sealName), seal(s, d.machine.digest), 0o600); err != nil {
		return err
	}
	if err := d.inherit(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// inherit takes over what a copy of the base touches. What that writes to, this one's copies need
// not: to copy it ahead would take memory of each. It need not be durable.
func (d *Draft) inherit() error {
	if !d.based {
		return nil
	}
	p, ok := d.base.Prefetch()
	if !ok {
		return nil
	}
	return os.WriteFile(filepath.Join(d.place.Path, prefetchName), Prefetch{Touched: p.Touched}.encode(), 0o600)
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
