package kvm

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// msrTSC is the time-stamp counter.
const msrTSC = 0x10

// TestProcessorsAgreeOnTheTime restores two processors whose counters were read so long
// apart that KVM takes it for what the guest wants.
func TestProcessorsAgreeOnTheTime(t *testing.T) {
	_, saved, _ := realMode(t, []byte{0xF4})
	one, err := saved.SaveState()
	require.NoError(t, err)
	vm, first, _ := realMode(t, []byte{0xF4})
	second, err := vm.CreateVCPU(1)
	require.NoError(t, err)
	defer func() { assert.NoError(t, second.Close()) }()
	require.NoError(t, first.RestoreState(one))
	require.NoError(t, second.RestoreState(later(t, one, 1<<40)))
	var times [3]uint64
	for i, c := range []interface{ MSR(uint32) (uint64, error) }{first, second, first} {
		times[i], err = c.MSR(msrTSC)
		require.NoError(t, err)
	}
	assert.LessOrEqual(t, times[0], times[1])
	assert.LessOrEqual(t, times[1], times[2])
}

// later is the state of a vCPU with a time-stamp counter that is ahead.
func later(t *testing.T, state []byte, ahead uint64) []byte {
	t.Helper()
	state = append([]byte(nil), state...)
	r := &blocks{b: state[1:]}
	var msrs []byte
	for len(r.b) > 0 {
		msrs = r.next()
		require.NoError(t, r.err)
	}
	for ; len(msrs) > 0; msrs = msrs[sizeMSR:] {
		if binary.LittleEndian.Uint32(msrs) == msrTSC {
			value := msrs[4:sizeMSR]
			binary.LittleEndian.PutUint64(value, binary.LittleEndian.Uint64(value)+ahead)
			return state
		}
	}
	require.Fail(t, "no time-stamp counter")
	return nil
}
