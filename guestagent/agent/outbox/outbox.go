package outbox

import (
	"io"
	"sync"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// keep is the largest buffer that is kept between writes, bytes.
const keep = 256 << 10

// Outbox joins the messages of concurrent senders to as few writes as possible: while one
// sender writes, the others add theirs to a batch, and one of them writes that next. A
// sender returns when its message has been written, so each has at most one message
// waiting and gets its turn in every batch.
type Outbox struct {
	w io.Writer

	mu      sync.Mutex
	done    *sync.Cond // a batch was written
	buf     []byte     // the batch being filled
	spare   []byte     // empty, for the next batch
	number  uint64     // of the batch being filled
	written uint64     // batches below this number are written
	writing bool
	err     error // the first of w; final
}

// New returns an outbox that writes to w, each batch with one Write.
func New(w io.Writer) *Outbox {
	o := &Outbox{w: w}
	o.done = sync.NewCond(&o.mu)
	return o
}

// Send writes what encode appends, one or more whole frames. An error of encode is
// returned and leaves the stream as it was; an error of the stream is returned to every
// later call too.
func (o *Outbox) Send(encode func(dst []byte) ([]byte, error)) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	b, err := encode(o.buf)
	if err != nil {
		return err
	}
	o.buf = b
	for batch := o.number; o.err == nil && batch >= o.written; {
		if !o.writing {
			o.write()
			break
		}
		o.done.Wait()
	}
	return o.err
}

// write writes the batch. It is called with mu held, and gives it up meanwhile.
func (o *Outbox) write() {
	out := o.buf
	o.buf, o.spare = o.spare, nil
	o.writing = true
	o.number++
	o.mu.Unlock()
	_, err := o.w.Write(out)
	o.mu.Lock()
	o.writing = false
	o.written = o.number
	if err != nil && o.err == nil {
		o.err = err
	}
	if o.spare == nil && cap(out) <= keep {
		o.spare = out[:0]
	}
	o.done.Broadcast()
}

// Message writes one message with the flags of its type. A nil payload is CBOR null.
func (o *Outbox) Message(id uint32, t proto.Type, payload any) error {
	return o.Send(func(dst []byte) ([]byte, error) { return proto.AppendMessage(dst, id, t, payload) })
}

// Data writes one message of a data type. p is not kept.
func (o *Outbox) Data(id uint32, t proto.Type, p []byte) error {
	return o.Send(func(dst []byte) ([]byte, error) { return proto.AppendDataMessage(dst, id, t, p) })
}
