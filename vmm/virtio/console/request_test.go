package console

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestControlLayout pins struct virtio_console_control, byte by byte.
func TestControlLayout(t *testing.T) {
	t.Parallel()
	m := control{id: 0x01020304, event: eventPortName, value: 0x0506}
	b := m.appendTo(nil)
	assert.Equal(t, "04030201"+"0700"+"0605", hex.EncodeToString(b))
	assert.Equal(t, m, parseControl((*[controlSize]byte)(b)))
	assert.Equal(t, "1800"+"5000", hex.EncodeToString(Size{Cols: 80, Rows: 24}.appendTo(nil)), "rows first, as Linux reads it")
}
