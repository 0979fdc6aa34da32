package vsock

import "time"

// lingerTime is how long a closed connection waits for the guest's reset, that of Linux.
const lingerTime = 8 * time.Second

// The methods below are the connection's state machine; mu is held unless they say
// otherwise. They queue packets; the caller flushes the device after it has let mu go.

// post asks for header-only packets to be sent.
func (c *Conn) post(p pending) {
	if c.phase == gone || c.phase == doomed && p != sendReset {
		return
	}
	c.pending |= p
	c.device.outbox.push(c)
}

// receive acts on a packet of this connection: headerSize bytes, which h holds, and then
// exactly h.length bytes.
func (c *Conn) receive(h *header, packet [][]byte) {
	if h.op == opReset {
		c.receiveReset()
		return
	}
	if c.phase == doomed || c.phase == gone {
		return
	}
	if err := c.credit.learn(h); err != nil {
		c.kill(err)
		return
	}
	if c.credit.available() > 0 {
		c.asked = false
		wake(c.writeWake)
	}
	switch h.op {
	case opResponse:
		c.receiveResponse()
	case opData:
		c.receiveData(h.length, packet)
	case opCreditRequest:
		c.post(sendCredit)
	case opShutdown:
		c.receiveShutdown(h.flags)
	case opRequest:
		// The guest has forgotten this connection and reuses its port.
		c.kill(ErrReset)
	}
	// opCreditUpdate has said what it has to say; an unknown operation says nothing.
}

func (c *Conn) receiveReset() {
	if c.phase == connecting && c.dialled {
		c.finish(ErrRefused)
		return
	}
	c.finish(ErrReset)
}

func (c *Conn) receiveResponse() {
	if c.phase != connecting || !c.dialled || c.pending&sendRequest != 0 {
		c.kill(ErrProtocol)
		return
	}
	c.phase = established
	wake(c.writeWake)
}

func (c *Conn) receiveData(n uint32, packet [][]byte) {
	switch {
	case c.phase == closing:
		return // nobody reads it any more; the guest has our shutdown before it
	case c.phase == connecting || c.peerMuted || !c.credit.accept(n):
		c.kill(ErrProtocol)
		return
	}
	c.ring.write(packet, headerSize, int(n), &c.device.spares)
	c.device.stats.received.Add(uint64(n))
	wake(c.readWake)
}

func (c *Conn) receiveShutdown(flags uint32) {
	c.peerMuted = c.peerMuted || flags&shutdownSend != 0
	c.peerDeaf = c.peerDeaf || flags&shutdownReceive != 0
	if c.peerMuted && c.peerDeaf {
		// The guest is done and waits for this reset. What it sent stays readable.
		c.doom()
	}
	wake(c.readWake)
	wake(c.writeWake)
}

// kill breaks the connection off and resets it.
func (c *Conn) kill(err error) {
	if c.err == nil {
		c.err = err
	}
	c.device.stats.killed.Add(1)
	c.doom()
	wake(c.readWake)
	wake(c.writeWake)
}

// doom leaves nothing to do but to send a reset.
func (c *Conn) doom() {
	c.stopLinger()
	c.phase = doomed
	c.pending = 0
	c.post(sendReset)
}

// finish takes the connection out of the table without a word to the guest.
func (c *Conn) finish(err error) {
	if c.phase == gone {
		return
	}
	if c.err == nil {
		c.err = err
	}
	c.leave()
	wake(c.readWake)
	wake(c.writeWake)
}

func (c *Conn) leave() {
	c.stopLinger()
	c.phase = gone
	c.pending = 0
	c.device.table.remove(c)
}

// abandon gives up a connection that is not established.
func (c *Conn) abandon() {
	if c.pending&sendRequest != 0 {
		c.leave() // the guest has never heard of it
		return
	}
	c.doom()
}

func (c *Conn) stopLinger() {
	if c.linger != nil {
		c.linger.Stop()
	}
}

// lingerOver runs when the guest has not answered our shutdown; mu is not held.
func (c *Conn) lingerOver() {
	c.mu.Lock()
	if c.phase == closing {
		c.doom()
	}
	c.mu.Unlock()
	c.device.flush()
}

// nextControl is the header of the first of the pending packets, of which there must be
// one; sent must follow once it is in the queue.
func (c *Conn) nextControl() (h header, p pending) {
	p = c.pending & -c.pending
	var op operation
	var flags uint32
	switch p {
	case sendRequest:
		op = opRequest
	case sendResponse:
		op = opResponse
	case sendCredit:
		op = opCreditUpdate
	case askCredit:
		op = opCreditRequest
	case sendShutdown:
		op, flags = opShutdown, shutdownSend
		if c.closed {
			flags = shutdownBoth
		}
	case sendReset:
		op = opReset
	}
	h = c.header(op)
	h.flags = flags
	return h, p
}

// sent notes that the packet p of nextControl is on its way.
func (c *Conn) sent(p pending) {
	c.pending &^= p
	switch p {
	case sendResponse:
		c.phase = established
		wake(c.writeWake)
	case sendReset:
		c.leave()
	}
}

// header is that of a packet to the guest about to be sent.
func (c *Conn) header(op operation) header {
	h := header{
		srcCID: hostCID, dstCID: c.device.cid,
		srcPort: c.key.host, dstPort: c.key.guest,
		kind: typeStream, op: op,
	}
	c.credit.stamp(&h)
	if op != opCreditUpdate {
		c.pending &^= sendCredit // every header carries it
	}
	return h
}
