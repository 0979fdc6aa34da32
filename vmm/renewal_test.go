package vmm

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/hv"
)

func newRenewal() *renewal {
	return &renewal{now: func() time.Time { return time.Unix(1_800_000_000, 123_456_789) }}
}

// renewDriver is the driver's view of the port.
type renewDriver struct{ dev *renewal }

func (d renewDriver) out(v uint32) {
	d.dev.access(&hv.Exit{Reason: hv.ExitIO, Write: true, Port: portRenewal, Size: 4, Count: 1, Data: binary.LittleEndian.AppendUint32(nil, v)})
}

func (d renewDriver) in() uint32 {
	e := &hv.Exit{Reason: hv.ExitIO, Port: portRenewal, Size: 4, Count: 1, Data: []byte{1, 2, 3, 4}}
	d.dev.access(e)
	return binary.LittleEndian.Uint32(e.Data)
}

// block is what the driver's interrupt handler reads.
func (d renewDriver) block() (generation uint32, at time.Time, entropy [8]uint32) {
	d.out(renewLatch)
	generation = d.in()
	ns := uint64(d.in())
	ns |= uint64(d.in()) << 32
	for i := range entropy {
		entropy[i] = d.in()
	}
	return generation, time.Unix(0, int64(ns)), entropy
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	source := renewDriver{newRenewal()}
	assert.Zero(t, source.in(), "nothing was asked for")
	assert.Zero(t, source.dev.wanted())
	source.out(0xF7)
	assert.EqualValues(t, 0xF7, source.in(), "the guest knows the device")
	assert.Zero(t, source.in())
	generation, at, entropy := source.block()
	assert.Zero(t, generation, "it is no copy")
	assert.True(t, source.dev.now().Equal(at))
	assert.Zero(t, source.in(), "the block ends")

	state := source.dev.save()
	seen := map[[8]uint32]bool{entropy: true}
	for range 3 {
		child := renewDriver{newRenewal()}
		require.NoError(t, child.dev.restore(state))
		assert.EqualValues(t, 0xF7, child.dev.wanted())
		generation, at, entropy = child.block()
		assert.EqualValues(t, 1, generation)
		assert.True(t, child.dev.now().Equal(at))
		assert.False(t, seen[entropy])
		seen[entropy] = true
		again, _, _ := child.block()
		assert.EqualValues(t, 1, again, "the other processors see that it is the same copy")
		grandchild := renewDriver{newRenewal()}
		require.NoError(t, grandchild.dev.restore(child.dev.save()))
		generation, _, _ = grandchild.block()
		assert.EqualValues(t, 2, generation)
	}
}

func TestRenewalIsReadOnInTheCopy(t *testing.T) {
	t.Parallel()
	source := renewDriver{newRenewal()}
	source.out(0x80)
	source.out(renewLatch)
	source.in()
	low := source.in()
	child := renewDriver{newRenewal()}
	require.NoError(t, child.dev.restore(source.dev.save()))
	ns := uint64(low) | uint64(child.in())<<32
	assert.Equal(t, uint64(source.dev.now().UnixNano()), ns, "the halves fit")
	first, second := child.in(), child.in()
	assert.NotZero(t, first|second, "entropy of its own")
}

func TestRenewalCommands(t *testing.T) {
	t.Parallel()
	for v, want := range map[uint32]uint8{0x1F: 0, 1: 0, 0x20: 0x20, 0xFF: 0xFF, 0x100: 0, 0x1F7: 0, math.MaxUint32: 0} {
		d := renewDriver{newRenewal()}
		d.out(v)
		assert.Equal(t, want, d.dev.wanted(), "%#x", v)
		assert.EqualValues(t, want, d.in(), "%#x", v)
	}
	d := renewDriver{newRenewal()}
	e := &hv.Exit{Write: true, Port: portRenewal, Size: 1, Data: []byte{0xF7}}
	d.dev.access(e)
	assert.Zero(t, d.dev.wanted(), "a byte is no command")
	e = &hv.Exit{Port: portRenewal, Size: 2, Data: []byte{1, 2}}
	d.dev.access(e)
	assert.Equal(t, []byte{0, 0}, e.Data)
	d.out(renewLatch)
	e = &hv.Exit{Port: portRenewal, Size: 4, Count: 12, Data: make([]byte, 48)}
	d.dev.access(e)
	assert.Equal(t, uint64(d.dev.now().UnixNano()), binary.LittleEndian.Uint64(e.Data[4:]), "a string instruction reads several words")
	assert.Zero(t, binary.LittleEndian.Uint32(e.Data[44:]))
}

func TestRenewalRefusesDamagedState(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"empty": nil, "short": make([]byte, 5), "long": make([]byte, 7), "exception as vector": {0x0E, 0, 0, 0, 0, 0}, "beyond the block": {0xF7, 0, 0, 0, 0, 12},
	} {
		r := newRenewal()
		require.ErrorIs(t, r.restore(b), ErrSavedState, name)
		assert.Zero(t, r.wanted(), name)
	}
	r := newRenewal()
	require.NoError(t, r.restore([]byte{0xF7, 0xFF, 0xFF, 0xFF, 0xFF, 11}))
	generation, _, _ := renewDriver{r}.block()
	assert.Zero(t, generation, "it wraps around")
}

func TestRenewalDoesNotAllocate(t *testing.T) {
	r := newRenewal()
	out := &hv.Exit{Write: true, Port: portRenewal, Size: 4, Data: make([]byte, 4)}
	in := &hv.Exit{Port: portRenewal, Size: 4, Data: make([]byte, 4)}
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		r.access(out)
		for range renewWords {
			r.access(in)
		}
	}))
}

func FuzzRenewal(f *testing.F) {
	f.Add([]byte{0xF7, 0, 0, 0, 0, 0}, []byte{4, 0xF7, 0, 0, 0, 0x84, 0, 0, 0, 0})
	f.Add([]byte{}, []byte{1, 2, 0x83, 4})
	f.Fuzz(func(t *testing.T, state, script []byte) {
		r := newRenewal()
		if r.restore(state) != nil {
			r = newRenewal()
		}
		for len(script) > 0 {
			size, write := script[0]&0x7F, script[0]&0x80 == 0
			data := script[1:min(len(script), 1+int(size))]
			script = script[1+len(data):]
			r.access(&hv.Exit{Write: write, Port: portRenewal, Size: size, Data: append([]byte(nil), data...)})
			if v := r.wanted(); v != 0 && v < firstVector {
				t.Fatalf("vector %#x", v)
			}
		}
		if err := newRenewal().restore(r.save()); err != nil {
			t.Fatal(err)
		}
	})
}
