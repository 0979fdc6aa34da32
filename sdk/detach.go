package microsandbox

import (
	"bytes"
	"errors"
	"io"
	"strings"
)

// ErrDetached reports that the person typed the detach keys.
var ErrDetached = errors.New("detached")

const defaultDetachKeys = "ctrl-]"

// parseDetachKeys returns the byte sequence of a comma separated list of ctrl-X and
// single characters.
func parseDetachKeys(s string) ([]byte, error) {
	if s == "" {
		s = defaultDetachKeys
	}
	var seq []byte
	for k := range strings.SplitSeq(s, ",") {
		c, ctrl := strings.CutPrefix(strings.ToLower(k), "ctrl-")
		switch {
		case ctrl && len(c) == 1 && (c[0] >= 'a' && c[0] <= 'z' || strings.ContainsAny(c, `@[]\^_`)):
			seq = append(seq, strings.ToUpper(c)[0]&0x1F)
		case len(k) == 1:
			seq = append(seq, k[0])
		default:
			return nil, fail(ErrInvalidConfig, "detach key %q: use ctrl-X or a single character", k)
		}
	}
	return seq, nil
}

// detachReader passes input on until it has seen the whole detach sequence. What may be
// its beginning is held back until it is clear that it is not.
type detachReader struct {
	in   io.Reader
	seq  []byte
	held []byte // a prefix of seq
}

// Read returns ErrDetached, besides what came before it, once the sequence is complete.
func (d *detachReader) Read(p []byte) (int, error) {
	if len(p) <= len(d.seq) {
		return 0, io.ErrShortBuffer
	}
	buf := make([]byte, len(p)-len(d.seq))
	n, err := d.in.Read(buf)
	out := p[:0]
	for _, b := range buf[:n] {
		d.held = append(d.held, b)
		for !bytes.HasPrefix(d.seq, d.held) {
			out = append(out, d.held[0])
			d.held = d.held[1:]
		}
		if len(d.held) == len(d.seq) {
			return len(out), ErrDetached
		}
	}
	if err != nil {
		out = append(out, d.held...)
		d.held = nil
	}
	return len(out), err
}
