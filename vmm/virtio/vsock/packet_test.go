package vsock

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestHeaderLayout pins the layout of struct virtio_vsock_hdr, byte by byte.
func TestHeaderLayout(t *testing.T) {
	t.Parallel()
	const want = "0807060504030201" + "1817161514131211" + // src_cid, dst_cid
		"24232221" + "34333231" + "44434241" + // src_port, dst_port, len
		"5251" + "0500" + "64636261" + // type, op, flags
		"74737271" + "84838281" // buf_alloc, fwd_cnt
	h := header{
		srcCID: 0x0102030405060708, dstCID: 0x1112131415161718,
		srcPort: 0x21222324, dstPort: 0x31323334, length: 0x41424344,
		kind: 0x5152, op: opData, flags: 0x61626364, alloc: 0x71727374, forwarded: 0x81828384,
	}
	var b [headerSize]byte
	h.put(&b)
	assert.Equal(t, want, hex.EncodeToString(b[:]))
	assert.Equal(t, h, parseHeader(&b))
	assert.Equal(t, key{host: 0x31323334, guest: 0x21222324}, h.key())
}
