package kvm

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/gomsb/gomsb/vmm/hv"
)

// The guest's clock as the kernel's api (Documentation/virt/kvm/x86/msr.rst) describes it.
const (
	msrSystemTimeNew = 0x4b564d01
	clockAt          = 0x3000
	clockFlags       = clockAt + 29
	guestStopped     = 2
)

func TestGuestHearsThatItWasPaused(t *testing.T) {
	_, c, mem := realMode(t, []byte{0xE6, 0x80, 0xEB, 0xFC}) // out 0x80,al; jmp
	locked(func() {
		flags := func() byte {
			t.Helper()
			e, err := c.Run()
			if !assert.NoError(t, err) || !assert.Equal(t, hv.ExitIO, e.Reason) {
				return 0
			}
			b := make([]byte, 1)
			assert.NoError(t, mem.ReadAt(b, clockFlags))
			return b[0]
		}
		assert.NoError(t, c.TellPaused(), "a guest without a clock")
		assert.NoError(t, c.SetMSRs([]hv.MSR{{Index: msrSystemTimeNew, Value: clockAt | 1}}))
		assert.Zero(t, flags()&guestStopped)
		assert.NoError(t, c.TellPaused())
		assert.Equal(t, byte(guestStopped), flags()&guestStopped)
	})
}
