package vmm

import "github.com/gomsb/gomsb/vmm/hv"

// The I/O ports that the machine decodes. Everything else reads as zero below
// 0xC00 and as all ones above, and ignores writes, like an empty ISA bus would to the
// probes that the kernel makes.
const (
	portI8042Command = 0x64  // 0xFE pulses the reset line (IBM PC/AT 8042)
	portPVPanic      = 0x505 // QEMU pvpanic: bit 0 = the kernel panicked
	portRenewal      = 0x508 // 32 bits wide, see renewal
	portPowerOff     = 0x604 // QEMU's ACPI PM1a control block: SLP_EN|SLP_TYP 5 = power-off
	portOpenBus      = 0xC00 // first port that floats high
)

const (
	i8042Reset     = 0xFE
	pvpanicPanic   = 1 << 0
	powerOffSleep5 = 0x2000
)

// port carries out one I/O port exit and returns how the machine ends, or 0. panicked
// is true after the guest reported a panic.
func port(e *hv.Exit, panicked *bool) Kind {
	if !e.Write {
		fill := byte(0)
		if e.Port >= portOpenBus {
			fill = 0xFF
		}
		for i := range e.Data {
			e.Data[i] = fill
		}
		if e.Port == portPVPanic && len(e.Data) > 0 {
			e.Data[0] = pvpanicPanic // the event types that the device understands
		}
		return 0
	}
	if len(e.Data) == 0 {
		return 0
	}
	switch e.Port {
	case portI8042Command:
		// A string instruction may carry several items; any of them may be the command.
		for i := 0; i < len(e.Data); i += max(1, int(e.Size)) {
			if e.Data[i] == i8042Reset {
				if *panicked {
					return Panic
				}
				return Reset
			}
		}
	case portPVPanic:
		if e.Data[0]&pvpanicPanic != 0 {
			*panicked = true
		}
	case portPowerOff:
		if len(e.Data) >= 2 && uint16(e.Data[0])|uint16(e.Data[1])<<8 == powerOffSleep5 {
			return PowerOff
		}
	}
	return 0
}
