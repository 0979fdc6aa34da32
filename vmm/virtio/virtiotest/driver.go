package virtiotest

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/virtio"
)

// Registers of the memory-mapped transport (virtio 1.2 §4.2.2).
const (
	RegMagic            = 0x000
	RegVersion          = 0x004
	RegDeviceID         = 0x008
	RegVendorID         = 0x00c
	RegDeviceFeatures   = 0x010
	RegDeviceFeatSel    = 0x014
	RegDriverFeatures   = 0x020
	RegDriverFeatSel    = 0x024
	RegQueueSel         = 0x030
	RegQueueNumMax      = 0x034
	RegQueueNum         = 0x038
	RegQueueReady       = 0x044
	RegQueueNotify      = 0x050
	RegInterruptStatus  = 0x060
	RegInterruptACK     = 0x064
	RegStatus           = 0x070
	RegQueueDesc        = 0x080 // low half; the high one follows, as for the next two
	RegQueueDriver      = 0x090
	RegQueueDevice      = 0x0a0
	RegConfigGeneration = 0x0fc
	RegConfig           = 0x100
)

const (
	// Negotiated is the status after FEATURES_OK, Running that after DRIVER_OK.
	Negotiated = virtio.StatusAcknowledge | virtio.StatusDriver | virtio.StatusFeaturesOK
	Running    = Negotiated | virtio.StatusDriverOK

	// RAMSize is the default size of the guest's memory in bytes.
	RAMSize = 16 << 20
	// DataBase is where the part of the default memory begins that no queue is laid out
	// in, unless the device has many large queues: it is free for a test's buffers.
	DataBase = 4 << 20

	ringBase = 0x10000
	watchdog = 20 * time.Second
	pollStep = 20 * time.Microsecond
)

// Config says how the driver sets the device up. The zero value takes everything that is
// offered.
type Config struct {
	// RAM is the guest's memory; RAMSize bytes at 0 if it is empty. Queues are laid out
	// from 64 KiB up.
	RAM []memory.Range
	// Refuse are feature bits not to accept.
	Refuse uint64
	// QueueSize limits the size of every queue; 0 is what the device allows.
	QueueSize uint16
	// Indirect puts every chain into an indirect table, if that was negotiated.
	Indirect bool
}

// Driver is the guest's half of one device.
type Driver struct {
	Memory *memory.Memory
	MMIO   *virtio.MMIO
	IRQ    *Line
	Queues []*Queue
	// Features are the accepted ones, after Negotiate.
	Features uint64

	t       testing.TB
	cfg     Config
	next    uint64  // first byte not allocated
	scratch [4]byte // a register
}

// New puts a transport in front of dev and gives it memory; both are closed when the
// test ends. Nothing is initialised.
func New(t testing.TB, dev virtio.Device, cfg Config) *Driver {
	t.Helper()
	if len(cfg.RAM) == 0 {
		cfg.RAM = []memory.Range{{Base: 0, Size: RAMSize}}
	}
	mem, err := memory.New(cfg.RAM)
	require.NoError(t, err)
	irq := newLine()
	mmio, err := virtio.NewMMIO(dev, mem, irq)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, mmio.Close())
		require.NoError(t, mem.Close())
	})
	return &Driver{Memory: mem, MMIO: mmio, IRQ: irq, t: t, cfg: cfg, next: ringBase}
}

// Start is New, then the whole initialisation of virtio 1.2 §3.1.1 with all queues.
func Start(t testing.TB, dev virtio.Device, cfg Config) *Driver {
	t.Helper()
	d := New(t, dev, cfg)
	d.Restart()
	return d
}

// Restart resets the device and initialises it again, with fresh queues.
func (d *Driver) Restart() {
	d.t.Helper()
	d.Negotiate()
	d.LayOut()
	for _, q := range d.Queues {
		q.Program()
	}
	d.Store(RegStatus, Running)
	require.EqualValues(d.t, Running, d.Load(RegStatus), "the device needs a reset: %v", d.MMIO.Failure())
}

// Negotiate resets the device and goes on to FEATURES_OK.
func (d *Driver) Negotiate() {
	d.t.Helper()
	d.Store(RegStatus, 0)
	d.Store(RegStatus, virtio.StatusAcknowledge)
	d.Store(RegStatus, virtio.StatusAcknowledge|virtio.StatusDriver)
	d.Features = d.Offered() &^ d.cfg.Refuse
	d.Accept(d.Features)
	d.Store(RegStatus, Negotiated)
	require.EqualValues(d.t, Negotiated, d.Load(RegStatus), "the device accepts the features")
}

// Offered are the features of the device.
func (d *Driver) Offered() uint64 {
	d.Store(RegDeviceFeatSel, 1)
	high := d.Load(RegDeviceFeatures)
	d.Store(RegDeviceFeatSel, 0)
	return uint64(high)<<32 | uint64(d.Load(RegDeviceFeatures))
}

// Accept writes the features that the driver wants.
func (d *Driver) Accept(features uint64) {
	for sel := range uint32(2) {
		d.Store(RegDriverFeatSel, sel)
		d.Store(RegDriverFeatures, uint32(features>>(32*sel)))
	}
}

// LayOut makes a Queue, in zero memory, for each queue that the device has. Nothing is
// told to the device, so that a test can change the addresses before Program.
func (d *Driver) LayOut() {
	d.t.Helper()
	d.next, d.Queues = ringBase, nil
	for i := uint32(0); ; i++ {
		d.Store(RegQueueSel, i)
		size := uint16(d.Load(RegQueueNumMax))
		if size == 0 {
			return
		}
		if d.cfg.QueueSize != 0 {
			size = min(size, d.cfg.QueueSize)
		}
		d.Queues = append(d.Queues, newQueue(d, i, size))
	}
}

// Alloc reserves n bytes of zero memory at a multiple of align, a power of two.
func (d *Driver) Alloc(n, align uint64) uint64 {
	d.t.Helper()
	addr := (d.next + align - 1) &^ (align - 1)
	d.next = addr + n
	clear(d.Bytes(addr, int(n)))
	return addr
}

// Store writes a 32-bit register.
func (d *Driver) Store(reg uint64, v uint32) {
	binary.LittleEndian.PutUint32(d.scratch[:], v)
	d.MMIO.Write(reg, d.scratch[:])
}

// Load reads a 32-bit register.
func (d *Driver) Load(reg uint64) uint32 {
	d.MMIO.Read(reg, d.scratch[:])
	return binary.LittleEndian.Uint32(d.scratch[:])
}

// Config reads n bytes at off of the configuration space.
func (d *Driver) Config(off uint64, n int) []byte {
	b := make([]byte, n)
	d.MMIO.Read(RegConfig+off, b)
	return b
}

// NeedsReset reports DEVICE_NEEDS_RESET.
func (d *Driver) NeedsReset() bool { return d.Load(RegStatus)&virtio.StatusNeedsReset != 0 }

// WaitBroken waits until the device needs a reset and returns why.
func (d *Driver) WaitBroken() error {
	d.t.Helper()
	d.Eventually(d.NeedsReset, "the device needs a reset")
	return d.MMIO.Failure()
}

// Ack acknowledges all interrupts that are pending and returns them.
func (d *Driver) Ack() uint32 {
	v := d.Load(RegInterruptStatus)
	d.Store(RegInterruptACK, v)
	return v
}

// Bytes is the n bytes of guest memory at addr, which must be RAM.
func (d *Driver) Bytes(addr uint64, n int) []byte {
	if n == 0 {
		return nil
	}
	b, err := d.Memory.Slice(addr, uint64(n))
	if err != nil {
		d.t.Helper()
		require.NoError(d.t, err, "%d bytes at %#x", n, addr)
	}
	return b
}

// Write copies p to guest memory at addr.
func (d *Driver) Write(addr uint64, p []byte) { copy(d.Bytes(addr, len(p)), p) }

// Eventually waits until f reports true, and fails the test if that takes too long.
func (d *Driver) Eventually(f func() bool, what string) {
	d.t.Helper()
	for end := time.Now().Add(watchdog); !f(); time.Sleep(pollStep) {
		require.True(d.t, time.Now().Before(end), "nothing happens; expected: %s", what)
	}
}
