//go:build linux && amd64

package kvm

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/hv"
)

func TestInterruptIsPendingBeforeTheFirstRun(t *testing.T) {
	vm, c, _ := realMode(t, []byte{0xEB, 0xFE})
	const (
		vector = 0xF7
		spiv   = 0xF0 // spurious interrupt vector register, bit 8 switches the controller on
		irr    = 0x200
	)
	require.NoError(t, vm.Interrupt(0, vector), "a controller that is off ignores it")
	fd := c.(*vcpu).fd
	s := &lapicState{}
	pending := func() bool {
		_, err := ioctlPtr(fd, kvmGetLAPIC, s)
		require.NoError(t, err)
		return binary.LittleEndian.Uint32(s.regs[irr+vector/32*0x10:])>>(vector%32)&1 == 1
	}
	require.False(t, pending())
	binary.LittleEndian.PutUint32(s.regs[spiv:], 0x1FF)
	_, err := ioctlPtr(fd, kvmSetLAPIC, s)
	require.NoError(t, err)
	require.NoError(t, vm.Interrupt(0, vector))
	assert.True(t, pending())
	assert.ErrorIs(t, vm.Interrupt(255, vector), hv.ErrUnsupported)
	assert.ErrorIs(t, vm.Interrupt(-1, vector), hv.ErrUnsupported)
	assert.NoError(t, vm.Interrupt(7, vector), "nobody is there")
}
