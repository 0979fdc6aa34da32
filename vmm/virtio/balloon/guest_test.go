package balloon

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

const (
	listArea = virtiotest.DataBase // page numbers and reports
	pageArea = 8 << 20             // what goes into the balloon
	pageSize = 4096
)

// guest is a driver of the balloon.
type guest struct {
	*virtiotest.Driver
	t   testing.TB
	dev *Device
}

func newGuest(t testing.TB, interval time.Duration, cfg virtiotest.Config) *guest {
	t.Helper()
	dev, err := New(Config{StatsInterval: interval})
	require.NoError(t, err)
	return &guest{virtiotest.Start(t, dev, cfg), t, dev}
}

// numbers writes page numbers and returns their buffer.
func (g *guest) numbers(pages ...uint32) virtiotest.Buffer {
	var b []byte
	for _, p := range pages {
		b = binary.LittleEndian.AppendUint32(b, p)
	}
	g.Write(listArea, b)
	return virtiotest.Buffer{Addr: listArea, Len: uint32(len(b))}
}

// dirty fills n pages from pageArea on.
func (g *guest) dirty(n int) {
	b := g.Bytes(pageArea, n*pageSize)
	for i := range b {
		b[i] = byte(i>>12) | 1
	}
}

// clean lists which of n pages from pageArea on are zero.
func (g *guest) clean(n int) (pages []int) {
	for i := range n {
		zeros := true
		for _, v := range g.Bytes(uint64(pageArea+i*pageSize), pageSize) {
			zeros = zeros && v == 0
		}
		if zeros {
			pages = append(pages, i)
		}
	}
	return pages
}

// report writes statistics and returns their buffer.
func (g *guest) report(tagsAndValues ...uint64) virtiotest.Buffer {
	var b []byte
	for i := 0; i < len(tagsAndValues); i += 2 {
		b = binary.LittleEndian.AppendUint16(b, uint16(tagsAndValues[i]))
		b = binary.LittleEndian.AppendUint64(b, tagsAndValues[i+1])
	}
	g.Write(listArea+0x10000, b)
	return virtiotest.Buffer{Addr: listArea + 0x10000, Len: uint32(len(b))}
}
