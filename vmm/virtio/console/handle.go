package console

import (
	"fmt"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// hear takes up to a queue's worth of the guest's control messages; more means that there
// may be more now. mu is held.
func (d *Device) hear() (more bool, err error) {
	q := d.active.Queues[controlOut]
	q.DisableKicks()
	used := false
	for range q.Size() {
		ok, err := q.Pop(&d.chain)
		if err != nil {
			return false, err
		}
		if !ok {
			break
		}
		var b [controlSize]byte
		if d.chain.Read(0, b[:]) == controlSize {
			d.obey(parseControl(&b))
		} else {
			d.ignored.Add(1)
		}
		if err := q.Push(d.chain.Head, 0); err != nil {
			return false, err
		}
		used = true
	}
	if err := notify(q, used); err != nil {
		return false, err
	}
	d.kickControl()
	return q.EnableKicks()
}

// kickControl has pending messages sent.
func (d *Device) kickControl() {
	if d.active.multiport && d.active.Queues[controlIn] != nil {
		_ = d.active.Queues[controlIn].Kick().Signal() // fails only when it is closed
	}
}

// obey acts on one control message: it sets what is to be told, at most one message of
// each kind for each port.
func (d *Device) obey(m control) {
	if m.event == eventDeviceReady {
		if m.value != 1 {
			d.ignored.Add(1) // the driver gave up
			return
		}
		for _, p := range d.ports {
			p.pending |= tellAdd
		}
		return
	}
	if m.id >= uint32(len(d.ports)) {
		d.ignored.Add(1)
		return
	}
	p := d.ports[m.id]
	switch m.event {
	case eventPortReady:
		p.ready = m.value == 1
		p.pending = 0
		if !p.ready {
			p.open = false
			return
		}
		if p.console {
			p.pending |= tellConsole
			if d.sizable {
				p.pending |= tellSize
			}
		}
		if p.name != "" {
			p.pending |= tellName
		}
		p.pending |= tellOpen
		if p.over {
			p.pending |= tellClosed
		}
	case eventPortOpen:
		p.open = p.ready && m.value == 1
		p.listen()
	default:
		d.ignored.Add(1)
	}
}

// tell sends the control messages that are pending, as far as there are buffers; more is
// always false, because their number is bounded. mu is held.
func (d *Device) tell() (more bool, err error) {
	q := d.active.Queues[controlIn]
	used := false
	for _, p := range d.ports {
		for p.pending != 0 {
			ok, err := d.popControl(q)
			if err != nil {
				return false, err
			}
			if !ok {
				return false, notify(q, used)
			}
			first := p.pending & -p.pending
			b := d.message(p, first)
			if n := d.chain.Write(0, b); n < len(b) {
				return false, fmt.Errorf("%w: control buffer of %d bytes", virtio.ErrGuest, n)
			}
			if err := q.Push(d.chain.Head, uint32(len(b))); err != nil {
				return false, err
			}
			p.pending &^= first
			used = true
		}
	}
	return false, notify(q, used)
}

func notify(q *virtio.Queue, used bool) error {
	if !used {
		return nil
	}
	return q.Notify()
}

// popControl takes a buffer; false means none now and a kick later.
func (d *Device) popControl(q *virtio.Queue) (bool, error) {
	q.DisableKicks()
	ok, err := q.Pop(&d.chain)
	if ok || err != nil {
		return ok, err
	}
	more, err := q.EnableKicks()
	if err != nil || !more {
		return false, err
	}
	return q.Pop(&d.chain)
}

// message encodes the message that p stands for; it is valid until the next call.
func (d *Device) message(p *port, what pending) []byte {
	m := control{id: p.id, value: 1}
	b := d.reply[:0]
	switch what {
	case tellAdd:
		m.event = eventPortAdd
	case tellConsole:
		m.event = eventConsolePort
	case tellName:
		m.event = eventPortName
		b = append(m.appendTo(b), p.name...)
		return b
	case tellOpen:
		m.event = eventPortOpen
	case tellSize:
		m.event, m.value = eventResize, 0
		return d.size.appendTo(m.appendTo(b))
	case tellClosed:
		m.event, m.value = eventPortOpen, 0
	}
	return m.appendTo(b)
}
