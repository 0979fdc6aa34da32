package mem

import (
	"fmt"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// activation serves the queue from Activate to Reset.
type activation struct {
	*Device
	virtio.Activation
	queue  *virtio.Queue
	worker *virtio.Worker // it must not use this field

	// Of the worker's goroutine.
	broken bool // the guest broke the queue; nothing is served any more
	chain  virtio.Chain
	in     [requestSize]byte
	out    [answerSize]byte
}

func startActivation(d *Device, a virtio.Activation) *activation {
	act := &activation{Device: d, Activation: a, queue: a.Queues[0]}
	act.worker = virtio.StartWorker(act.queue.Kick(), act.run)
	return act
}

func (a *activation) Pause()  { a.worker.Pause() }
func (a *activation) Resume() { a.worker.Resume() }
func (a *activation) End()    { a.worker.Stop() }

// run serves what is in the queue.
func (a *activation) run() {
	if a.broken {
		return
	}
	if err := a.drain(); err != nil {
		a.broken = true
		a.log.Warn("memory device needs a reset", "error", err)
		a.Fail(fmt.Errorf("memory: %w", err))
	}
}

func (a *activation) drain() error {
	a.queue.DisableKicks()
	for range a.queue.Size() {
		ok, err := a.queue.Pop(&a.chain)
		if err != nil {
			return err
		}
		if !ok {
			more, err := a.queue.EnableKicks()
			if err != nil {
				return err
			}
			if more {
				continue
			}
			return a.queue.Notify()
		}
		if a.chain.WritableLen() < answerSize {
			return fmt.Errorf("%w: a request has room for an answer of %d bytes, not %d", virtio.ErrGuest, a.chain.WritableLen(), answerSize)
		}
		a.serve().encode(&a.out)
		a.chain.Write(0, a.out[:])
		if err := a.queue.Push(a.chain.Head, answerSize); err != nil {
			return err
		}
	}
	_ = a.queue.Kick().Signal() // Pause has its turn; fails only when it is closed
	return a.queue.Notify()
}

// serve does what the request at hand asks.
func (a *activation) serve() answer {
	if a.chain.Read(0, a.in[:]) < requestSize {
		return answer{kind: answerError}
	}
	r := parseRequest(&a.in)
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.kind == requestUnplugAll {
		return a.release(0, a.blocks.size)
	}
	first, ok := a.find(r)
	if !ok {
		return answer{kind: answerError}
	}
	n := uint64(r.n)
	there := a.blocks.count(first, n)
	switch {
	case r.kind == requestPlug && there == 0:
		if (a.plugged+n)*BlockSize > a.target.Load() {
			return answer{kind: answerNACK}
		}
		a.blocks.set(first, n, true)
		a.plugged += n
		return answer{kind: answerACK}
	case r.kind == requestUnplug && there == n:
		return a.release(first, n)
	case r.kind == requestState && there == n:
		return answer{answerACK, statePlugged}
	case r.kind == requestState && there == 0:
		return answer{answerACK, stateUnplugged}
	case r.kind == requestState:
		return answer{answerACK, stateMixed}
	}
	return answer{kind: answerError}
}

// find is the first block of a request, or false if it is not about blocks of the region.
func (a *activation) find(r request) (first uint64, ok bool) {
	if r.n == 0 || r.addr < a.base || r.addr%BlockSize != 0 {
		return 0, false
	}
	first = (r.addr - a.base) / BlockSize
	return first, first < a.blocks.size && uint64(r.n) <= a.blocks.size-first
}

// release gives n blocks from first on to the host, whether they are plugged or not; mu is
// held.
func (a *activation) release(first, n uint64) answer {
	if err := a.Memory.Discard(a.base+first*BlockSize, n*BlockSize); err != nil {
		a.log.Warn("cannot give unplugged memory back to the host", "error", err)
		return answer{kind: answerBusy}
	}
	a.plugged -= a.blocks.count(first, n)
	a.blocks.set(first, n, false)
	return answer{kind: answerACK}
}
