package soft

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

// The expected texts of these encodings were checked with objdump.
func TestDecodeOperations(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code string
		op   operation
	}{
		"fwait":                     {"9b", opFWAIT},
		"fwait, every prefix":       {"66 67 2e 3e 26 36 64 65 f2 f3 48 9b", opFWAIT},
		"lock fwait":                {"f0 9b", opUndefined},
		"int3":                      {"cc", opINT3},
		"int 3":                     {"cd 03", opINT3},
		"int 4":                     {"cd 04", opUnknown},
		"nop":                       {"90", opUnknown},
		"ud0":                       {"0f ff 03", opUndefined},
		"ud1":                       {"0f b9 03", opUndefined},
		"xsave":                     {"0f ae 23", opXSAVE},
		"xsave64":                   {"48 0f ae 23", opXSAVE},
		"xsaveopt":                  {"0f ae 33", opXSAVE},
		"xsaveopt64":                {"48 0f ae 33", opXSAVE},
		"lock xsave":                {"f0 0f ae 23", opUndefined},
		"xrstor":                    {"0f ae 2b", opXRSTOR},
		"xrstor64":                  {"48 0f ae 2b", opXRSTOR},
		"ptwrite":                   {"f3 0f ae 23", opUnknown},
		"66 xsave":                  {"66 0f ae 23", opUnknown},
		"fxsave":                    {"0f ae 03", opUnknown},
		"clflush":                   {"0f ae 3b", opUnknown},
		"clwb":                      {"66 0f ae 33", opCLWB},
		"tpause":                    {"66 0f ae f3", opUnknown},
		"lfence":                    {"0f ae e8", opUnknown},
		"ldmxcsr":                   {"0f ae 13", opLDMXCSR},
		"stmxcsr":                   {"0f ae 1b", opSTMXCSR},
		"xsavec":                    {"0f c7 23", opUnknown},
		"xgetbv":                    {"0f 01 d0", opXGETBV},
		"xsetbv":                    {"0f 01 d1", opUnknown},
		"clac":                      {"0f 01 ca", opCLAC},
		"stac":                      {"0f 01 cb", opSTAC},
		"66 stac":                   {"66 0f 01 cb", opUnknown},
		"rdtscp":                    {"0f 01 f9", opRDTSCP},
		"lgdt":                      {"0f 01 13", opUnknown},
		"verr":                      {"0f 00 e3", opVERR},
		"verw":                      {"0f 00 2b", opVERW},
		"ltr":                       {"0f 00 db", opUnknown},
		"lar":                       {"0f 02 c3", opLAR},
		"lsl":                       {"0f 03 c3", opLSL},
		"rdsspq":                    {"f3 48 0f 1e c8", opNop},
		"endbr64":                   {"f3 0f 1e fa", opUnknown},
		"popcnt":                    {"f3 0f b8 c3", opPOPCNT},
		"popcnt, 66":                {"66 f3 0f b8 c3", opPOPCNT},
		"jmpe":                      {"0f b8 c3", opUnknown},
		"crc32b":                    {"f2 0f 38 f0 c3", opCRC32},
		"crc32w":                    {"66 f2 0f 38 f1 c3", opCRC32},
		"crc32q":                    {"f2 48 0f 38 f1 c3", opCRC32},
		"movbe":                     {"0f 38 f0 03", opUnknown},
		"adcx":                      {"66 0f 38 f6 c3", opADCX},
		"adox":                      {"f3 0f 38 f6 c3", opADOX},
		"andn":                      {"c4 e2 60 f2 c3", opANDN},
		"andn, 256 bits":            {"c4 e2 64 f2 c3", opUnknown},
		"blsr":                      {"c4 e2 60 f3 cb", opBLSR},
		"blsmsk":                    {"c4 e2 60 f3 d3", opBLSMSK},
		"blsi":                      {"c4 e2 60 f3 db", opBLSI},
		"group 17, 0":               {"c4 e2 60 f3 c3", opUnknown},
		"group 17, 66":              {"c4 e2 61 f3 cb", opUnknown},
		"bzhi":                      {"c4 e2 60 f5 c3", opBZHI},
		"pext":                      {"c4 e2 62 f5 c3", opPEXT},
		"pdep":                      {"c4 e2 63 f5 c3", opPDEP},
		"mulx":                      {"c4 e2 63 f6 c3", opMULX},
		"bextr":                     {"c4 e2 60 f7 c3", opBEXTR},
		"shlx":                      {"c4 e2 61 f7 c3", opSHLX},
		"sarx":                      {"c4 e2 62 f7 c3", opSARX},
		"shrx":                      {"c4 e2 63 f7 c3", opSHRX},
		"rorx":                      {"c4 e3 7b f0 c3 05", opRORX},
		"rorx with a second source": {"c4 e3 73 f0 c3 05", opUnknown},
		"vzeroupper":                {"c5 f8 77", opUnknown},
		"VEX of an unknown map":     {"c4 ff 60 f2 c3", opUnknown},
		"REX and VEX":               {"48 c4 e2 60 f2 c3", opUnknown},
		"66 and VEX":                {"66 c4 e2 60 f2 c3", opUnknown},
		"lock and VEX":              {"f0 c4 e2 60 f2 c3", opUnknown},
		"EVEX":                      {"62 f1 7c 48 58 c1", opUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := unhex(t, c.code)
			in, verdict := decode(b)
			require.Equal(t, decoded, verdict)
			assert.Equal(t, c.op, in.op)
			if c.op == opUnknown {
				return
			}
			assert.Equal(t, len(b), int(in.length))
			for n := range b {
				_, verdict := decode(b[:n])
				assert.Equal(t, truncated, verdict, "the first %d bytes", n)
			}
			more, verdict := decode(append(b, bytes.Repeat([]byte{0xff}, maxLength-len(b))...))
			assert.Equal(t, decoded, verdict)
			assert.Equal(t, in, more, "what follows must not matter")
		})
	}
}

func TestDecodeOperands(t *testing.T) {
	t.Parallel()
	none := uint8(regNone)
	for name, c := range map[string]struct {
		code string
		want instruction
	}{
		"[rbx]":             {"0f ae 23", instruction{memory: true, base: 3, index: none}},
		"[r11]":             {"41 0f ae 23", instruction{memory: true, base: 11, index: none, rex: true}},
		"[rbp+0x10]":        {"0f ae 65 10", instruction{memory: true, base: 5, index: none, disp: 0x10}},
		"[rbp-0x10]":        {"0f ae 65 f0", instruction{memory: true, base: 5, index: none, disp: -0x10}},
		"[rbp-0x12345678]":  {"0f ae a5 88 a9 cb ed", instruction{memory: true, base: 5, index: none, disp: -0x12345678}},
		"[r13+0]":           {"41 0f ae 65 00", instruction{memory: true, base: 13, index: none, rex: true}},
		"[rip+0x1000]":      {"0f ae 25 00 10 00 00", instruction{memory: true, base: regRIP, index: none, disp: 0x1000}},
		"[rip-1], REX.B":    {"41 0f ae 25 ff ff ff ff", instruction{memory: true, base: regRIP, index: none, disp: -1, rex: true}},
		"[rsp]":             {"0f ae 24 24", instruction{memory: true, base: 4, index: none}},
		"[rsp], scale 8":    {"0f ae 24 e4", instruction{memory: true, base: 4, index: none, scale: 3}},
		"[r12]":             {"41 0f ae 24 24", instruction{memory: true, base: 12, index: none, rex: true}},
		"[rsp+r12]":         {"42 0f ae 24 24", instruction{memory: true, base: 4, index: 12, rex: true}},
		"[rax+rcx*4]":       {"0f ae 24 88", instruction{memory: true, base: 0, index: 1, scale: 2}},
		"[r8+r9*8+0x7f]":    {"43 0f ae 64 c8 7f", instruction{memory: true, base: 8, index: 9, scale: 3, disp: 0x7f, rex: true}},
		"[0x12345678]":      {"0f ae 24 25 78 56 34 12", instruction{memory: true, base: none, index: none, disp: 0x12345678}},
		"[rdx*2+0x10]":      {"0f ae 24 55 10 00 00 00", instruction{memory: true, base: none, index: 2, scale: 1, disp: 0x10}},
		"[rdx*2+rbp+0x10]":  {"0f ae 64 55 10", instruction{memory: true, base: 5, index: 2, scale: 1, disp: 0x10}},
		"gs:[rbx]":          {"65 0f ae 23", instruction{memory: true, base: 3, index: none, segment: segmentGS}},
		"fs:[rbx]":          {"64 0f ae 23", instruction{memory: true, base: 3, index: none, segment: segmentFS}},
		"gs:, ds: [rbx]":    {"65 3e 0f ae 23", instruction{memory: true, base: 3, index: none, segment: segmentGS}},
		"[ebx]":             {"67 0f ae 23", instruction{memory: true, base: 3, index: none, address32: true}},
		"64 bits":           {"48 0f ae 23", instruction{memory: true, base: 3, index: none, wide: true, rex: true}},
		"REX before 66":     {"49 66 f3 0f b8 c3", instruction{rm: 3, base: none, index: none, size16: true}},
		"two REX":           {"49 40 0f ae 23", instruction{memory: true, base: 3, index: none, rex: true}},
		"registers":         {"f3 4d 0f b8 d1", instruction{reg: 10, rm: 9, base: none, index: none, wide: true, rex: true}},
		"VEX, all extended": {"c4 02 9b f6 5c c8 10", instruction{reg: 11, vvvv: 12, memory: true, base: 8, index: 9, scale: 3, disp: 16, vex: true, wide: true}},
		"VEX and immediate": {"c4 e3 7b f0 43 10 05", instruction{memory: true, base: 3, index: none, disp: 16, vex: true, immediate: 5}},
		"rip and immediate": {"c4 e3 7b f0 05 10 00 00 00 05", instruction{memory: true, base: regRIP, index: none, disp: 16, vex: true, immediate: 5}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, verdict := decode(unhex(t, c.code))
			require.Equal(t, decoded, verdict)
			require.NotEqual(t, opUnknown, in.op)
			c.want.op, c.want.length, c.want.mandatory, c.want.table, c.want.opcode = in.op, in.length, in.mandatory, in.table, in.opcode
			if in.op == opXSAVE {
				in.reg = 0 // part of the opcode
			}
			assert.Equal(t, c.want, in)
		})
	}
}

func TestDecodeTooLong(t *testing.T) {
	t.Parallel()
	long := append(bytes.Repeat([]byte{0x66}, 14), 0x0f, 0x01, 0xd0)
	_, verdict := decode(long[:maxLength])
	assert.Equal(t, tooLong, verdict)
	_, verdict = decode(long[:maxLength-1])
	assert.Equal(t, truncated, verdict)
	in, verdict := decode(append(bytes.Repeat([]byte{0x2e}, 14), 0x9b))
	assert.Equal(t, decoded, verdict)
	assert.Equal(t, uint8(15), in.length)
	_, verdict = decode(bytes.Repeat([]byte{0x48}, maxLength))
	assert.Equal(t, tooLong, verdict, "prefixes only")
}

func TestLocate(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code string
		want uint64
	}{
		"base, index, displacement": {"43 0f ae 64 c8 80", 0x1000 + 8*0x20 - 0x80},
		"rip is that of the next":   {"0f ae 25 00 10 00 00", 0x5000 + 7 + 0x1000},
		"rip behind an immediate":   {"c4 e3 7b f0 05 10 00 00 00 05", 0x5000 + 10 + 0x10},
		"fs":                        {"64 41 0f ae 20", 0x1000 + 0x100000},
		"gs":                        {"65 41 0f ae 20", 0x1000 + 0xffff888000000000},
		"gs absolute, negative":     {"65 0f ae 24 25 f8 ff ff ff", 0xffff888000000000 - 8},
		"32 bits wrap":              {"67 0f ae 20", 0x89abcdef},
		"fs is added after":         {"64 67 0f ae 20", 0x89abcdef + 0x100000},
		"64 bits wrap":              {"0f ae 61 01", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := cpu{}
			x.regs.RAX, x.regs.RCX, x.regs.R8, x.regs.R9, x.regs.RIP = 0x0123456789abcdef, ^uint64(0), 0x1000, 0x20, 0x5000
			x.sys.FS.Base, x.sys.GS.Base = 0x100000, 0xffff888000000000
			in, verdict := decode(unhex(t, c.code))
			require.Equal(t, decoded, verdict)
			x.in = in
			x.locate()
			assert.Equal(t, c.want, x.area.base)
		})
	}
}

func TestEveryRegisterHasItsNumber(t *testing.T) {
	t.Parallel()
	c := cpu{}
	for n := range uint8(16) {
		*c.reg(n) = 0x1111111111111111 * uint64(n)
	}
	r := c.regs
	for n, v := range []uint64{r.RAX, r.RCX, r.RDX, r.RBX, r.RSP, r.RBP, r.RSI, r.RDI, r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15} {
		assert.Equal(t, 0x1111111111111111*uint64(n), v, n)
	}
	c.setReg(15, 0xabcd1234, 2)
	assert.Equal(t, uint64(0xffffffffffff1234), c.regs.R15)
	c.setReg(15, 0x55667788aabbccdd, 4)
	assert.Equal(t, uint64(0xaabbccdd), c.regs.R15)
	c.regs.RBX, c.regs.RDI = 0x1234, 0x5678
	assert.Equal(t, uint64(0x12), c.low(7, 1), "BH")
	c.in.rex = true
	assert.Equal(t, uint64(0x78), c.low(7, 1), "DIL")
}
