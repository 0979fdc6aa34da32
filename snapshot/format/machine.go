package format

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// The file "machine" is, in little-endian numbers:
//
//	magic            8 bytes
//	version          u32
//	length of header u32, header in JSON
//	length of state  u64, state
//	size of chunks   u32
//	number of chunks u64, for each the CRC-32C of its bytes as u32
//	SHA-256 of all that precedes
//
// A passing checkpoint has version 2, and instead of chunks:
//
//	boot_id          36 bytes, as Linux has it in /proc/sys/kernel/random
//	length of path   u32, path of the file that it is based on, if any
//	inode, size, mtime and ctime of that file, u64 each; times in nanoseconds
//	number of ranges u64, for each that is in "memory" its offset and length as u64
const (
	magic   = "gomsbCKP"
	version = 1
	passing = 2
	// chunkSize is how much of memory one checksum covers, in bytes.
	chunkSize = 1 << 20
	// maxHeader bounds the JSON, and maxMachine the whole file.
	maxHeader  = 1 << 20
	maxMachine = 256 << 20
)

// machine is the content of the file.
type machine struct {
	header Header
	state  []byte
	sums   []uint32 // of the chunks of memory
	layer  *layer   // in place of them
	digest [sha256.Size]byte
}

// encode returns the file. The header is valid.
func (m *machine) encode() ([]byte, error) {
	header, err := json.Marshal(m.header)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	v, size := uint32(version), int64(len(header))+int64(len(m.state))+4*int64(len(m.sums))
	if m.layer != nil {
		v, size = passing, size+m.layer.size()
	}
	if len(header) > maxHeader || size > maxMachine-1024 {
		return nil, fmt.Errorf("%w: header and state are too large", ErrHeader)
	}
	le := binary.LittleEndian
	b := make([]byte, 0, size+1024)
	b = le.AppendUint32(append(b, magic...), v)
	b = append(le.AppendUint32(b, uint32(len(header))), header...)
	b = append(le.AppendUint64(b, uint64(len(m.state))), m.state...)
	if m.layer != nil {
		b = m.layer.append(b)
	} else {
		b = le.AppendUint64(le.AppendUint32(b, chunkSize), uint64(len(m.sums)))
		for _, s := range m.sums {
			b = le.AppendUint32(b, s)
		}
	}
	m.digest = sha256.Sum256(b)
	return append(b, m.digest[:]...), nil
}

// decode is the inverse of encode. What it returns aliases b.
func decode(b []byte) (*machine, error) {
	damaged := func(what string) error { return fmt.Errorf("%w: %s", ErrDamaged, what) }
	le := binary.LittleEndian
	if len(b) < len(magic)+4+sha256.Size || string(b[:len(magic)]) != magic {
		return nil, damaged("it does not begin like one")
	}
	v := le.Uint32(b[len(magic):])
	if v != version && v != passing {
		return nil, fmt.Errorf("%w: it is %d, known are %d and %d", ErrVersion, v, version, passing)
	}
	body := len(b) - sha256.Size
	m := &machine{digest: sha256.Sum256(b[:body])}
	if !bytes.Equal(m.digest[:], b[body:]) {
		return nil, damaged("the checksum of its state is wrong")
	}
	r := &reader{b: b[len(magic)+4 : body]}
	header := r.take(uint64(le.Uint32(r.take(4))))
	m.state = r.take(le.Uint64(r.take(8)))
	if r.short || len(header) > maxHeader {
		return nil, damaged("its parts do not have the sizes that it says")
	}
	d := json.NewDecoder(bytes.NewReader(header))
	d.DisallowUnknownFields()
	if err := d.Decode(&m.header); err != nil {
		return nil, damaged("its header: " + err.Error())
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, damaged("its header has more than one value")
	}
	if err := m.header.validate(); err != nil {
		return nil, damaged("its header: " + err.Error())
	}
	if v == passing {
		var ok bool
		if m.layer, ok = r.layer(m.header.MemorySize()); !ok {
			return nil, damaged("it does not say which memory it has")
		}
		return m, nil
	}
	chunk := le.Uint32(r.take(4))
	count := le.Uint64(r.take(8))
	if r.short || chunk != chunkSize || uint64(len(r.b)) != 4*count || count != uint64(chunks(m.header.MemorySize())) {
		return nil, damaged("it has too few or too many checksums of memory")
	}
	m.sums = make([]uint32, count)
	for i := range m.sums {
		m.sums[i] = le.Uint32(r.b[4*i:])
	}
	return m, nil
}

// chunks is how many chunks a memory of n bytes has.
func chunks(n int64) int64 { return (n + chunkSize - 1) / chunkSize }

// reader takes bytes apart; short is set once there were too few, and zeros come then.
type reader struct {
	b     []byte
	short bool
}

var none [8]byte

func (r *reader) take(n uint64) []byte {
	if r.short || n > uint64(len(r.b)) {
		r.short = true
		return none[:]
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}
