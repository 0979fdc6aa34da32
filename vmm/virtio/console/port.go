package console

import (
	"sync/atomic"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// pending is a set of control messages that a port has for the guest, lowest first.
type pending uint8

const (
	tellAdd pending = 1 << iota
	tellConsole
	tellName
	tellOpen
	tellSize
	tellClosed
)

// port is one byte stream of the device. All but read, output and input is protected by
// Device.mu.
type port struct {
	id      uint32
	name    string
	console bool
	output  *output
	input   *input // nil for none
	read    atomic.Uint64

	in, out *virtio.Queue // to and from the guest; nil without a driver
	ready   bool          // the guest has the port
	open    bool          // a program of the guest has it open
	over    bool          // the guest knows that Output has failed
	pending pending

	chain   virtio.Chain // from the guest
	partial bool         // chain is not used yet, only done bytes of it are taken
	done    uint64
}

func newPort(id int, cfg Port) *port {
	p := &port{id: uint32(id), name: cfg.Name, console: cfg.Console, output: newOutput(cfg.Output, cfg.Console)}
	if cfg.Input != nil {
		p.input = newInput(cfg.Input)
	}
	return p
}

// attach takes the queues of a driver.
func (p *port) attach(in, out *virtio.Queue) {
	p.in, p.out = in, out
	if out != nil {
		kick := out.Kick()
		p.output.notify(func() { _ = kick.Signal() }) // fails only when it is closed
	}
}

// detach forgets the driver.
func (p *port) detach() {
	p.output.notify(nil)
	if p.input != nil {
		p.input.forget()
	}
	p.in, p.out = nil, nil
	p.ready, p.open, p.over, p.pending, p.partial = false, false, false, 0, false
}

func (p *port) close() {
	if p.input != nil {
		p.input.close()
	}
	p.output.wait()
}

// listen begins to read Input once a program of the guest can take it.
func (p *port) listen() {
	if p.input == nil || p.in == nil || !p.open {
		return
	}
	kick := p.in.Kick()
	p.input.start(func() { _ = kick.Signal() }) // fails only when it is closed
	_ = kick.Signal()
}

// settle uses up a chain that is only partly taken, because a saved guest would wait for
// it for ever.
func (p *port) settle() error {
	if !p.partial {
		return nil
	}
	p.partial = false
	p.output.finish(p.chain.Readable, p.done)
	if err := p.out.Push(p.chain.Head, 0); err != nil {
		return err
	}
	return p.out.Notify()
}

// collect takes what the guest wrote to p, up to a queue's worth of chains; more means
// that there may be more now.
func (d *Device) collect(p *port) (more bool, err error) {
	used, more, err := p.collectBatch()
	if err != nil {
		return false, err
	}
	if !p.over && p.output.hasFailed() {
		p.over = true
		p.pending |= tellClosed
		d.kickControl()
	}
	return more, notify(p.out, used > 0)
}

func (p *port) collectBatch() (used int, more bool, err error) {
	p.out.DisableKicks()
	for range p.out.Size() {
		if !p.partial {
			ok, err := p.out.Pop(&p.chain)
			if err != nil {
				return used, false, err
			}
			if !ok {
				more, err := p.out.EnableKicks()
				return used, more, err
			}
			p.partial, p.done = true, 0
		}
		p.done += p.output.write(p.chain.Readable, p.done)
		if p.done < p.chain.ReadableLen() {
			return used, false, nil // output will kick
		}
		p.partial = false
		if err := p.out.Push(p.chain.Head, 0); err != nil {
			return used, false, err
		}
		used++
	}
	return used, true, nil
}

// feed gives what was read from Input to the guest, in up to a queue's worth of chains;
// more means that there may be more to give now.
func (d *Device) feed(p *port) (more bool, err error) {
	if !p.open {
		return false, nil // bytes for a port that nobody has open would be lost
	}
	used, more, err := d.feedBatch(p)
	if err != nil {
		return false, err
	}
	return more, notify(p.in, used > 0)
}

func (d *Device) feedBatch(p *port) (used int, more bool, err error) {
	p.in.DisableKicks()
	for range p.in.Size() {
		chunk := p.input.peek()
		if len(chunk) == 0 {
			return used, false, nil // input will kick
		}
		ok, err := p.in.Pop(&d.chain)
		if err != nil {
			return used, false, err
		}
		if !ok {
			more, err := p.in.EnableKicks()
			return used, more, err
		}
		n := d.chain.Write(0, chunk)
		if err := p.in.Push(d.chain.Head, uint32(n)); err != nil {
			return used, false, err
		}
		p.input.take(n)
		p.read.Add(uint64(n))
		used++
	}
	return used, true, nil
}
