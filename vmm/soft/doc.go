// Package soft executes what KVM leaves undone on hosts without hardware virtualization:
// there it interprets the guest's supervisor code, and gives up with an internal error at
// instructions that its interpreter lacks. It may import vmm/hv, vmm/memory and the
// standard library; it must never know about devices or boot protocols, and nothing but
// the soft CPU profile may use it.
//
// An instruction is fetched through the guest's page tables, decoded, checked and carried
// out as the processor manuals say (Intel SDM vol. 2, AMD APM vol. 3): its faults, with
// error code and CR2, go to the guest, and a faulting instruction changes neither
// registers nor data. Accessed and dirty bits are set by compare and swap, since other
// processors of the guest change their page tables meanwhile; when one of them wins, the
// instruction starts again. Known are, in 64-bit mode with four levels of page tables:
//
//   - FWAIT, INT3, LDMXCSR, STMXCSR, XSAVE, XSAVEOPT, XRSTOR in the standard format, XGETBV
//   - STAC, CLAC, RDTSCP, RDSSP (as no-op), CLWB (as no-op), UD0, UD1
//   - VERR, VERW, LAR, LSL
//   - POPCNT, CRC32, ADCX, ADOX and the general-purpose VEX instructions of BMI1 and BMI2
//
// What the soft CPU profile hides from the guest and a kernel therefore does not use is
// missing on purpose: CMPXCHG16B, INVPCID, MONITOR, the compacted XSAVE format, protection
// keys. So are vector instructions, single-stepping and debug registers.
//
// Guest memory, page tables and registers are hostile: every address is checked against
// RAM, nothing is read twice after it was checked, and work is bounded by the 15 bytes of
// an instruction and the 16 KiB of an XSAVE area.
package soft
