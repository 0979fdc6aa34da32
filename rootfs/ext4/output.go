package ext4

import "io"

const outputBuffer = 256 << 10

// output gathers writes that continue each other into few large ones.
type output struct {
	w   io.WriterAt
	off int64 // where buf begins
	buf []byte
}

func (o *output) put(off int64, p []byte) error {
	if off != o.off+int64(len(o.buf)) || len(o.buf)+len(p) > outputBuffer {
		if err := o.flush(); err != nil {
			return err
		}
		o.off = off
	}
	if len(p) >= outputBuffer {
		o.off = off + int64(len(p))
		_, err := o.w.WriteAt(p, off)
		return err
	}
	o.buf = append(o.buf, p...)
	return nil
}

func (o *output) flush() error {
	if len(o.buf) == 0 {
		return nil
	}
	_, err := o.w.WriteAt(o.buf, o.off)
	o.off += int64(len(o.buf))
	o.buf = o.buf[:0]
	return err
}
