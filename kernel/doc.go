// Package kernel finds and opens the guest kernel: the one embedded in the
// binary, or a file the user names, and describes it as segments of guest-physical
// memory plus an entry point. It imports the standard library, x/sys/unix, a zstd
// decoder and internal/unpacked only, is used by the launcher and by package vmm's callers, and
// must never execute, dlopen or trust what it opens: every kernel file is hostile
// input, parsed with bounded work and bounded memory.
//
// Three containers are understood, told apart by their first bytes:
//
//   - an ELF64 vmlinux (System V gABI, PT_LOAD segments at p_paddr);
//   - a bzImage (Linux x86 boot protocol 2.12 or later with the 64-bit entry);
//   - a libkrunfw shared object, whose krunfw_get_kernel function is decoded, not run.
//
// All of them are entered in long mode at [Image.Entry] with RSI pointing to a
// zero page, as Documentation/arch/x86/boot.rst ("64-bit boot protocol") says.
//
// How the embedded kernel is built, and what is in it, is in README.md.
package kernel
