//go:build linux && amd64

package kvm

import (
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/hv"
	"github.com/gomsb/gomsb/vmm/hv/kvmtest"
	"github.com/gomsb/gomsb/vmm/memory"
)

// realMode makes a machine with one vCPU at address 0x1000 in real mode, where code is.
func realMode(t *testing.T, code []byte) (hv.VM, hv.VCPU, *memory.Memory) {
	t.Helper()
	kvmtest.Need(t)
	k, err := Open("")
	require.NoError(t, err)
	defer k.Close()
	vm, err := k.CreateVM()
	require.NoError(t, err)
	mem, err := memory.New([]memory.Range{{Base: 0, Size: 64 << 10}})
	require.NoError(t, err)
	require.NoError(t, mem.WriteAt(code, 0x1000))
	require.NoError(t, vm.MapMemory(0, 0, mem.Regions()[0].Host))
	c, err := vm.CreateVCPU(0)
	require.NoError(t, err)
	s, err := c.SystemRegisters()
	require.NoError(t, err)
	s.CS.Base, s.CS.Selector = 0, 0
	require.NoError(t, c.SetSystemRegisters(s))
	require.NoError(t, c.SetRegisters(hv.Registers{RIP: 0x1000, RFLAGS: 2, RSP: 0x8000}))
	t.Cleanup(func() {
		assert.NoError(t, c.Close())
		assert.NoError(t, vm.Close())
		assert.NoError(t, mem.Close())
	})
	return vm, c, mem
}

// locked runs f on a thread of its own, which ends with it.
func locked(f func()) {
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(done)
		f()
	}()
	<-done
}

func TestStructSizesAreTheKernels(t *testing.T) {
	for name, c := range map[string]struct{ have, want uintptr }{
		"kvm_regs": {unsafe.Sizeof(hv.Registers{}), 0x90}, "kvm_sregs": {unsafe.Sizeof(hv.SystemRegisters{}), 0x138}, "kvm_fpu": {unsafe.Sizeof(fpu{}), 416},
		"kvm_irqchip": {unsafe.Sizeof(irqchip{}), 520}, "kvm_pit_state2": {unsafe.Sizeof(pitState{}), 112}, "kvm_clock_data": {unsafe.Sizeof(clockData{}), 48},
		"kvm_vcpu_events": {unsafe.Sizeof(vcpuEvents{}), 64}, "kvm_msr_entry": {unsafe.Sizeof(msrEntry{}), 16},
		"kvm_irqfd": {unsafe.Sizeof(irqfdConfig{}), 32}, "kvm_msi": {unsafe.Sizeof(msiMessage{}), 32}, "kvm_ioeventfd": {unsafe.Sizeof(ioeventConfig{}), 64}, "kvm_userspace_memory_region": {unsafe.Sizeof(userMemoryRegion{}), 32},
		"kvm_pit_config": {unsafe.Sizeof(pitConfig{}), 64}, "kvm_xcrs": {unsafe.Sizeof(xcrs{}), 392}, "kvm_debugregs": {unsafe.Sizeof(debugRegs{}), 128}, "kvm_lapic_state": {unsafe.Sizeof(lapicState{}), 1024},
		"kvm_signal_mask": {unsafe.Sizeof(signalMask{}), 12}, "kvm_pre_fault_memory": {unsafe.Sizeof(preFault{}), 64}, "kvm_device_attr": {unsafe.Sizeof(deviceAttr{}), 24},
	} {
		assert.Equal(t, c.want, c.have, name)
	}
}

func TestExits(t *testing.T) {
	// mov al,7; out 0x80,al; in al,0x64; mov [0x500],al is RAM; mov bx,0xF000; mov ds,bx; mov [0xFFF0],al is MMIO at 0xFFFF0; out dx
	code := []byte{
		0xB0, 0x07, 0xE6, 0x80, // mov al,7; out 0x80,al
		0xE4, 0x64, // in al,0x64
		0xBB, 0x00, 0xF0, 0x8E, 0xDB, // mov bx,0xf000; mov ds,bx
		0xA2, 0xF0, 0xFF, // mov [0xfff0],al
		0xA1, 0xF0, 0xFF, // mov ax,[0xfff0]
		0x8C, 0xC8, 0x8E, 0xD8, // mov ax,cs; mov ds,ax
		0xBE, 0x00, 0x20, 0xB9, 0x03, 0x00, 0xBA, 0x80, 0x00, // mov si,0x2000; mov cx,3; mov dx,0x80
		0xF3, 0x6E, // rep outsb
		0xEB, 0xFE, // jmp $
	}
	_, c, mem := realMode(t, code)
	require.NoError(t, mem.WriteAt([]byte("abc"), 0x2000))
	type seen struct {
		reason hv.ExitReason
		write  bool
		addr   uint64
		data   string
	}
	var got []seen
	locked(func() {
		out := ""
		for len(got) < 4 || len(out) < 3 {
			e, err := c.Run()
			if !assert.NoError(t, err) {
				return
			}
			switch e.Reason {
			case hv.ExitIO:
				if !e.Write {
					e.Data[0] = 0x5A
				}
				if len(got) >= 4 {
					out += string(e.Data)
					continue
				}
				got = append(got, seen{e.Reason, e.Write, uint64(e.Port), string(e.Data)})
			case hv.ExitMMIO:
				if !e.Write {
					e.Data[0], e.Data[1] = 1, 2
				}
				got = append(got, seen{e.Reason, e.Write, e.Addr, string(e.Data)})
			default:
				assert.Fail(t, "unexpected exit", "%+v", e)
				return
			}
		}
		assert.Equal(t, "abc", out, "a string instruction loses no item")
	})
	assert.Equal(t, []seen{
		{hv.ExitIO, true, 0x80, "\x07"}, {hv.ExitIO, false, 0x64, "\x5A"}, {hv.ExitMMIO, true, 0xFFFF0, "\x5A"}, {hv.ExitMMIO, false, 0xFFFF0, "\x01\x02"},
	}, got)
}

func TestTripleFaultIsShutdown(t *testing.T) {
	_, c, _ := realMode(t, []byte{0x0F, 0x0B}) // ud2 without an interrupt table
	s, err := c.SystemRegisters()
	require.NoError(t, err)
	s.CR0 |= 1 // protected mode, flat, and no interrupt table to go to
	s.IDT = hv.DescriptorTable{}
	s.CS = hv.Segment{Limit: 0xFFFFFFFF, Selector: 8, Type: 11, Present: 1, S: 1, DB: 1, G: 1}
	data := hv.Segment{Limit: 0xFFFFFFFF, Selector: 16, Type: 3, Present: 1, S: 1, DB: 1, G: 1}
	s.DS, s.ES, s.SS = data, data, data
	require.NoError(t, c.SetSystemRegisters(s))
	locked(func() {
		e, err := c.Run()
		if assert.NoError(t, err) {
			assert.Equal(t, hv.ExitShutdown, e.Reason)
		}
	})
}

// spin keeps a guest busy in a loop and hands it to f until f returns.
func spin(t *testing.T, f func(c hv.VCPU, exits *atomic.Int64)) {
	t.Helper()
	_, c, _ := realMode(t, []byte{0xEB, 0xFE})
	var stop atomic.Bool
	var exits atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		for !stop.Load() {
			e, err := c.Run()
			if !assert.NoError(t, err) || !assert.Equal(t, hv.ExitNone, e.Reason) {
				return
			}
			exits.Add(1)
		}
	}()
	f(c, &exits)
	stop.Store(true)
	c.Kick()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the kick was lost")
	}
}

func TestKicksArriveAndOnlyKicksInterrupt(t *testing.T) {
	spin(t, func(c hv.VCPU, exits *atomic.Int64) {
		// Preemption signals and garbage collection go on while the guest runs ...
		end := time.Now().Add(300 * time.Millisecond)
		for time.Now().Before(end) {
			runtime.GC()
		}
		assert.Less(t, exits.Load(), int64(3), "signals other than kicks must not end KVM_RUN")
		// ... and kicks do end it.
		before := exits.Load()
		c.Kick()
		require.Eventually(t, func() bool { return exits.Load() > before }, time.Minute, time.Millisecond)
	})
}

func TestThousandsOfKicksLoseNone(t *testing.T) {
	spin(t, func(c hv.VCPU, exits *atomic.Int64) {
		for range 3000 {
			before := exits.Load()
			c.Kick()
			for deadline := time.Now().Add(10 * time.Second); exits.Load() == before; runtime.Gosched() {
				if time.Now().After(deadline) {
					require.Fail(t, "a kick was lost")
				}
			}
		}
	})
}

func TestKickBeforeRun(t *testing.T) {
	_, c, _ := realMode(t, []byte{0xEB, 0xFE})
	c.Kick()
	locked(func() {
		e, err := c.Run()
		if assert.NoError(t, err) {
			assert.Equal(t, hv.ExitNone, e.Reason)
		}
	})
}

func TestStateRoundTrip(t *testing.T) {
	// out 0x80 with a counter in bl, for ever
	code := []byte{0xFE, 0xC3, 0x88, 0xD8, 0xE6, 0x80, 0xEB, 0xF8} // inc bl; mov al,bl; out 0x80,al; jmp
	vm1, c1, mem1 := realMode(t, code)
	var vcpuState, vmState []byte
	locked(func() {
		for want := byte(1); want <= 5; want++ {
			e, err := c1.Run()
			if !assert.NoError(t, err) || !assert.Equal(t, hv.ExitIO, e.Reason) {
				return
			}
			assert.Equal(t, want, e.Data[0])
		}
		var err error
		vcpuState, err = c1.SaveState()
		assert.NoError(t, err)
	})
	vmState, err := vm1.SaveState()
	require.NoError(t, err)
	vm2, c2, mem2 := realMode(t, code)
	copy(mem2.Regions()[0].Host, mem1.Regions()[0].Host)
	require.NoError(t, vm2.RestoreState(vmState))
	locked(func() {
		if !assert.NoError(t, c2.RestoreState(vcpuState)) {
			return
		}
		e, err := c2.Run()
		if assert.NoError(t, err) && assert.Equal(t, hv.ExitIO, e.Reason) {
			assert.EqualValues(t, 6, e.Data[0], "it goes on after the instruction that had exited")
		}
	})
	for n := range len(vcpuState) {
		if n%97 == 0 {
			assert.ErrorIs(t, c2.RestoreState(vcpuState[:n]), hv.ErrState, n)
		}
	}
	assert.ErrorIs(t, vm2.RestoreState(vmState[:len(vmState)-1]), hv.ErrState)
	assert.ErrorIs(t, c2.RestoreState(append([]byte{9}, vcpuState[1:]...)), hv.ErrState)
}

func TestExitDoesNotAllocate(t *testing.T) {
	_, c, _ := realMode(t, []byte{0xE6, 0x80, 0xEB, 0xFC}) // out 0x80,al; jmp
	locked(func() {
		assert.Zero(t, testing.AllocsPerRun(100, func() {
			if _, err := c.Run(); err != nil {
				t.Error(err)
			}
		}))
	})
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	_, err := Open("/nonexistent/kvm")
	assert.ErrorIs(t, err, ErrNoDevice)
	_, err = Open(os.DevNull)
	assert.ErrorIs(t, err, ErrNotKVM)
}

func TestCloseLeavesNothingOpen(t *testing.T) {
	kvmtest.Need(t)
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(entries)
	}
	before := count()
	for range 5 {
		k, err := Open("")
		require.NoError(t, err)
		vm, err := k.CreateVM()
		require.NoError(t, err)
		c, err := vm.CreateVCPU(0)
		require.NoError(t, err)
		require.NoError(t, c.Close())
		require.NoError(t, c.Close())
		require.NoError(t, vm.Close())
		require.NoError(t, k.Close())
		c.Kick()
	}
	assert.Equal(t, before, count())
}
