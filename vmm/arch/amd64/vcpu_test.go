package amd64

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/hv"
)

// recorder is a virtual processor that remembers its set-up; call number fails, if it is
// not 0, does not work.
type recorder struct {
	hv.VCPU
	calls, fails int

	cpuid []hv.CPUIDEntry
	msrs  []hv.MSR
	fcw   uint16
	mxcsr uint32
	xcr0  uint64
	regs  *hv.Registers
	sys   *hv.SystemRegisters
}

var errFailed = errors.New("failed")

func (r *recorder) call() error {
	if r.calls++; r.calls == r.fails {
		return errFailed
	}
	return nil
}

func (r *recorder) SetCPUID(t []hv.CPUIDEntry) error { r.cpuid = t; return r.call() }
func (r *recorder) SetMSRs(m []hv.MSR) error         { r.msrs = m; return r.call() }
func (r *recorder) SetFPU(fcw uint16, mxcsr uint32) error {
	r.fcw, r.mxcsr = fcw, mxcsr
	return r.call()
}
func (r *recorder) SetXCR0(v uint64) error { r.xcr0 = v; return r.call() }

// SystemRegisters are those after a reset, of which only some matter here.
func (r *recorder) SystemRegisters() (hv.SystemRegisters, error) {
	return hv.SystemRegisters{APICBase: 0xfee00900, CR0: 0x60000010, CR4: 1 << 9, CR8: 1, LDT: hv.Segment{Unusable: 1}}, r.call()
}
func (r *recorder) SetSystemRegisters(s hv.SystemRegisters) error { r.sys = &s; return r.call() }
func (r *recorder) SetRegisters(g hv.Registers) error             { r.regs = &g; return r.call() }

func TestBootProcessor(t *testing.T) {
	t.Parallel()
	var r recorder
	table := []hv.CPUIDEntry{{Function: 1}}
	require.NoError(t, SetupVCPU(&r, 0, 0x1000123, table))
	assert.Equal(t, table, r.cpuid)
	assert.Equal(t, []hv.MSR{{Index: 0x1a0, Value: 1}, {Index: 0x2ff, Value: 0x806}}, r.msrs, "fast strings; all memory write-back")
	assert.EqualValues(t, 0x37f, r.fcw)
	assert.EqualValues(t, 0x1f80, r.mxcsr)
	assert.Equal(t, hv.Registers{RIP: 0x1000123, RSP: 0x8ff0, RBP: 0x8ff0, RSI: 0x7000, RFLAGS: 2}, *r.regs, "interrupts off, RSI the zero page")

	s := r.sys
	assert.EqualValues(t, 1|1<<4|1<<31, s.CR0, "protected mode, paging")
	assert.EqualValues(t, 1<<5|1<<9, s.CR4, "PAE, and what was set")
	assert.EqualValues(t, 1<<8|1<<10, s.EFER, "long mode, active")
	assert.EqualValues(t, pageTables, s.CR3)
	assert.EqualValues(t, 0xfee00900, s.APICBase, "as it was")
	assert.Equal(t, hv.DescriptorTable{Base: gdtAddr, Limit: 39}, s.GDT)
	assert.Zero(t, s.IDT)
	assert.Equal(t, hv.Segment{Limit: 0xffffffff, Selector: 0x10, Type: 11, Present: 1, S: 1, L: 1, G: 1}, s.CS)
	for _, seg := range []hv.Segment{s.DS, s.ES, s.FS, s.GS, s.SS} {
		assert.Equal(t, hv.Segment{Limit: 0xffffffff, Selector: 0x18, Type: 3, Present: 1, S: 1, DB: 1, G: 1}, seg)
	}
	assert.EqualValues(t, 11, s.TR.Type, "busy")
}

// TestOtherProcessors wait for the first one to start them.
func TestOtherProcessors(t *testing.T) {
	t.Parallel()
	var r recorder
	require.NoError(t, SetupVCPU(&r, 1, 0x1000123, nil))
	assert.Nil(t, r.regs)
	assert.Nil(t, r.sys)
	assert.NotEmpty(t, r.msrs)
}

// TestExtendedState: what the kernel will enable is enabled, on every processor that has
// it.
func TestExtendedState(t *testing.T) {
	t.Parallel()
	for features, want := range map[uint32]uint64{3: 0, 5: 0, 7: 7, 0xe7: 7} {
		for id := range 2 {
			var r recorder
			require.NoError(t, SetupVCPU(&r, id, 1, []hv.CPUIDEntry{{Function: 0xd, EAX: features}, {Function: 0xd, Index: 1, EAX: 7}}))
			assert.Equal(t, want, r.xcr0)
		}
	}
	assert.ErrorIs(t, SetupVCPU(&recorder{fails: 4}, 1, 1, []hv.CPUIDEntry{{Function: 0xd, EAX: 7}}), errFailed)
}

func TestSetupFails(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 6; n++ {
		assert.ErrorIs(t, SetupVCPU(&recorder{fails: n}, 0, 1, nil), errFailed, "call %d", n)
	}
	assert.NoError(t, SetupVCPU(&recorder{fails: 7}, 0, 1, nil), "there are six")
}
