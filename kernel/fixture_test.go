package kernel

import "encoding/binary"

var le = binary.LittleEndian

// testProg is a program header for testELF; its data is placed at off.
type testProg struct {
	kind, flags                      uint32
	off, vaddr, paddr, filesz, memsz uint64
}

// testELF builds an ELF64 file of total bytes with the given program headers.
func testELF(kind uint16, entry uint64, total int, progs ...testProg) []byte {
	b := make([]byte, max(total, elfHeaderSize+len(progs)*elfProgSize))
	copy(b, elfMagic+"\x02\x01\x01")
	le.PutUint16(b[16:], kind)
	le.PutUint16(b[18:], elfMachineX86)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], entry)
	le.PutUint64(b[32:], elfHeaderSize)
	le.PutUint16(b[52:], elfHeaderSize)
	le.PutUint16(b[54:], elfProgSize)
	le.PutUint16(b[56:], uint16(len(progs)))
	for i, p := range progs {
		h := b[elfHeaderSize+i*elfProgSize:]
		le.PutUint32(h, p.kind)
		le.PutUint32(h[4:], p.flags)
		for n, v := range []uint64{p.off, p.vaddr, p.paddr, p.filesz, p.memsz} {
			le.PutUint64(h[8+8*n:], v)
		}
	}
	return b
}

// testVmlinux is a small valid kernel: text at 16 MiB, data with bss behind it.
func testVmlinux() []byte {
	b := testELF(elfTypeExec, 0x1000010, 0x3000,
		testProg{kind: progLoad, flags: 5, off: 0x1000, vaddr: 0xffffffff81000000, paddr: 0x1000000, filesz: 0x1000, memsz: 0x1000},
		testProg{kind: progLoad, flags: 6, off: 0x2000, vaddr: 0xffffffff81001000, paddr: 0x1001000, filesz: 0x1000, memsz: 0x5000},
		testProg{kind: 4, flags: 4, off: 0x1800, vaddr: 0xffffffff81000800, paddr: 0x1000800, filesz: 0x20, memsz: 0x20},
	)
	for i := 0x1000; i < len(b); i++ {
		b[i] = byte(i >> 8)
	}
	return b
}

// testBzImage is a small valid bzImage with 4 setup sectors and 0x1000 bytes of kernel.
func testBzImage() []byte {
	const setup = 5 * bzSector
	b := make([]byte, setup+0x1000)
	b[bzSetupSects] = 4
	le.PutUint32(b[bzSysSize:], 0x1000/16)
	le.PutUint16(b[bzBootFlag:], bzBootFlagAA55)
	b[0x200], b[bzHeaderLength] = 0xEB, 0x6A
	le.PutUint32(b[bzMagic:], bzMagicHdrS)
	le.PutUint16(b[bzVersion:], 0x020F)
	b[bzLoadFlags] = bzLoadedHigh
	le.PutUint16(b[bzXLoadFlags:], bzKernel64)
	le.PutUint64(b[bzPrefAddress:], 0x1000000)
	le.PutUint32(b[bzInitSize:], 0x8000)
	for i := setup; i < len(b); i++ {
		b[i] = byte(i >> 4)
	}
	return b
}

// Where testLibkrunfw puts things; file offsets equal virtual addresses.
const (
	soDynamic = 0x200
	soSymtab  = 0x300
	soStrtab  = 0x348
	soRela    = 0x380
	soCode    = 0x400
	soGot     = 0x500
	soBundle  = 0x1000
	soSize    = 0x800
	soTotal   = 0x1801
)

// codeGCC is what gcc -O0 emits, reading the pointer through the word at soGot.
func codeGCC(load, entry, size uint32) []byte {
	c := []byte{
		0xF3, 0x0F, 0x1E, 0xFA, 0x55, 0x48, 0x89, 0xE5,
		0x48, 0x89, 0x7D, 0xF8, 0x48, 0x89, 0x75, 0xF0, 0x48, 0x89, 0x55, 0xE8,
	}
	for i, v := range []uint32{load, entry, size} {
		c = append(c, 0x48, 0x8B, 0x45, 0xF8-8*byte(i), 0x48, 0xC7, 0x00)
		c = le.AppendUint32(c, v)
	}
	c = append(c, 0x48, 0x8B, 0x05)
	c = le.AppendUint32(c, uint32(soGot-(soCode+len(c)+4)))
	return append(c, 0x5D, 0xC3)
}

// codeOptimised is what gcc -O2 and clang -O2 emit, with a direct pointer.
func codeOptimised(load, entry, size uint32) []byte {
	var c []byte
	for i, v := range []uint32{load, entry, size} {
		c = append(c, 0x48, 0xC7, []byte{0x07, 0x06, 0x02}[i])
		c = le.AppendUint32(c, v)
	}
	c = append(c, 0x48, 0x8D, 0x05)
	bundle := soBundle
	c = le.AppendUint32(c, uint32(bundle-(soCode+len(c)+4)))
	return append(c, 0xC3)
}

// testLibkrunfw is a small valid libkrunfw shared object around code.
func testLibkrunfw(code []byte) []byte {
	b := testELF(elfTypeDyn, 0, soTotal,
		testProg{kind: progLoad, flags: 7, filesz: soTotal, memsz: soTotal},
		testProg{kind: progDynamic, off: soDynamic, vaddr: soDynamic, filesz: 6 * elfDynSize, memsz: 6 * elfDynSize},
	)
	for i, v := range [][2]uint64{{dynSymTab, soSymtab}, {dynStrTab, soStrtab}, {dynStrSz, 0x30}, {dynRela, soRela}, {dynRelaSz, elfRelaSize}, {dynNull, 0}} {
		le.PutUint64(b[soDynamic+16*i:], v[0])
		le.PutUint64(b[soDynamic+16*i+8:], v[1])
	}
	copy(b[soStrtab:], "\x00"+getKernel+"\x00KERNEL_BUNDLE\x00")
	putSymbol(b[soSymtab+elfSymSize:], 1, soCode, uint64(len(code)))
	putSymbol(b[soSymtab+2*elfSymSize:], uint32(2+len(getKernel)), soBundle, soSize+1)
	putRela(b, soGot, 2<<32|relaGlobDat, 0)
	copy(b[soCode:], code)
	for i := soBundle; i < soTotal; i++ {
		b[i] = byte(i >> 3)
	}
	return b
}

func putSymbol(b []byte, name uint32, value, size uint64) {
	le.PutUint32(b, name)
	b[4] = 0x12 // global function
	le.PutUint16(b[6:], 1)
	le.PutUint64(b[8:], value)
	le.PutUint64(b[16:], size)
}

func putRela(b []byte, where, info, addend uint64) {
	le.PutUint64(b[soRela:], where)
	le.PutUint64(b[soRela+8:], info)
	le.PutUint64(b[soRela+16:], addend)
}
