package archive

import (
	"encoding/binary"
	"encoding/hex"
	"hash"

	"lukechampine.com/blake3"
)

// transportAlgorithm names the digest that protects members on their way.
const transportAlgorithm = "msb-archive-member-blake3-v1"

// newTransport begins the digest of a member; its stored bytes follow.
func newTransport(kind string, m *member) hash.Hash {
	b := append([]byte(transportAlgorithm), 0)
	for _, s := range []string{kind, m.name} {
		b = append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(m.stored))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.size))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(m.extents)))
	for _, e := range m.extents {
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Offset))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Length))
	}
	h := blake3.New(32, nil)
	_, _ = h.Write(b) // never fails
	return h
}

func transportDigest(h hash.Hash) *digest {
	return &digest{Algorithm: transportAlgorithm, Digest: "blake3:" + hex.EncodeToString(h.Sum(nil))}
}

func sha256Digest(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }
