package amd64

import "encoding/binary"

// Addresses of the interrupt controllers.
const (
	localAPICAddr = 0xfee00000
	ioAPICAddr    = 0xfec00000
	irqLines      = 24
	cascade       = 2 // of the second 8259
)

// Entry types of the MP configuration table (MP specification 1.4 §4.3).
const (
	mpProcessor = iota
	mpBus
	mpIOAPIC
	mpInterrupt
	mpLocalInterrupt
)

const (
	mpEnabled = 1
	mpBoot    = 2

	mpVectored = 0 // interrupt types
	mpNMI      = 1
	mpExtINT   = 3

	apicVersion = 0x14
	allAPICs    = 0xff
)

// mpTable is the floating pointer with the configuration table behind it, for n
// processors whose local APIC IDs are 0 to n-1 and an I/O APIC of 24 lines. The lines
// are ISA interrupts, edge-triggered, active high, each on the input of its number: so
// KVM wires them, the timer too, which a PC has on input 2.
func mpTable(n int) []byte {
	le := binary.LittleEndian
	var entries []byte
	count := 0
	add := func(e ...byte) {
		entries = append(entries, e...)
		count++
	}
	for id := range n {
		flags := byte(mpEnabled)
		if id == 0 {
			flags |= mpBoot
		}
		e := make([]byte, 20)
		e[0], e[1], e[2], e[3] = mpProcessor, byte(id), apicVersion, flags
		le.PutUint32(e[4:], 0x600) // family 6
		le.PutUint32(e[8:], 0x201) // FPU and APIC
		add(e...)
	}
	ioAPIC := byte(n) // the next free APIC ID
	add(mpBus, 0, 'I', 'S', 'A', ' ', ' ', ' ')
	add(le.AppendUint32([]byte{mpIOAPIC, ioAPIC, 0x11, mpEnabled}, ioAPICAddr)...)
	for irq := range byte(irqLines) {
		if irq != cascade {
			add(mpInterrupt, mpVectored, 0, 0, 0, irq, ioAPIC, irq)
		}
	}
	add(mpLocalInterrupt, mpExtINT, 0, 0, 0, 0, 0, 0)
	add(mpLocalInterrupt, mpNMI, 0, 0, 0, 0, allAPICs, 1)

	header := make([]byte, 44)
	copy(header, "PCMP")
	le.PutUint16(header[4:], uint16(len(header)+len(entries)))
	header[6] = 4 // specification 1.4
	copy(header[8:], "GOMSB   ")
	copy(header[16:], "MICROVM     ")
	le.PutUint16(header[34:], uint16(count))
	le.PutUint32(header[36:], localAPICAddr)
	table := append(header, entries...)
	table[7] = checksum(table)

	pointer := make([]byte, 16)
	copy(pointer, "_MP_")
	le.PutUint32(pointer[4:], mpTableAddr+16)
	pointer[8], pointer[9] = 1, 4
	pointer[10] = checksum(pointer)
	return append(pointer, table...)
}

// checksum makes the sum of all bytes zero.
func checksum(b []byte) byte {
	var sum byte
	for _, x := range b {
		sum += x
	}
	return -sum
}
