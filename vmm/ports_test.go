package vmm

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/gomsb/gomsb/vmm/hv"
)

func TestPorts(t *testing.T) {
	for name, c := range map[string]struct {
		port     uint16
		size     uint8
		data     []byte
		panicked bool
		want     Kind
		panics   bool
	}{
		"i8042 reset":               {0x64, 1, []byte{0xFE}, false, Reset, false},
		"i8042 reset after a panic": {0x64, 1, []byte{0xFE}, true, Panic, true},
		"i8042 other command":       {0x64, 1, []byte{0xD1}, false, 0, false},
		"reset in a string":         {0x64, 1, []byte{1, 2, 0xFE}, false, Reset, false},
		"reset as a high byte":      {0x64, 2, []byte{1, 0xFE}, false, 0, false},
		"panic":                     {0x505, 1, []byte{1}, false, 0, true},
		"crash loaded":              {0x505, 1, []byte{2}, false, 0, false},
		"power-off":                 {0x604, 2, []byte{0, 0x20}, false, PowerOff, false},
		"sleep":                     {0x604, 2, []byte{0, 0x24}, false, 0, false},
		"half a power-off":          {0x604, 1, []byte{0x20}, false, 0, false},
		"nothing":                   {0x604, 2, nil, false, 0, false},
		"elsewhere":                 {0x80, 1, []byte{0xFE}, false, 0, false},
	} {
		panicked := c.panicked
		got := port(&hv.Exit{Reason: hv.ExitIO, Write: true, Port: c.port, Size: c.size, Data: c.data}, &panicked)
		assert.Equal(t, c.want, got, name)
		assert.Equal(t, c.panics || c.panicked, panicked, name)
	}
}

func TestPortReads(t *testing.T) {
	for p, want := range map[uint16]byte{0x60: 0, 0x3fd: 0, portPVPanic: 1, 0xCF8: 0xFF, 0xFFFF: 0xFF} {
		data := []byte{0x55, 0x55}
		panicked := false
		assert.Zero(t, port(&hv.Exit{Reason: hv.ExitIO, Port: p, Size: 2, Data: data}, &panicked))
		assert.Equal(t, want, data[0], "port %#x", p)
		assert.False(t, panicked)
	}
}

func TestKindsHaveNames(t *testing.T) {
	for k := PowerOff; k <= Failed; k++ {
		assert.NotContains(t, k.String(), "kind", k)
	}
	assert.Equal(t, "kind 99", Kind(99).String())
	assert.Equal(t, "failed: virtual processor: internal error 0x1 at rip 0x10", Result{Kind: Failed, Err: &ExitError{Reason: "internal error", Code: 1, RIP: 16}}.String())
}
