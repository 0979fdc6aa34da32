package proto

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

// TestLengthField is P1: lengths out of range are refused before memory is taken.
func TestLengthField(t *testing.T) {
	for length, want := range map[uint32]error{
		0: ErrFrameTooShort, 3: ErrFrameTooShort, 4: ErrFrameTooShort,
		MaxFrame + 1: ErrFrameTooLarge, 1<<32 - 1: ErrFrameTooLarge,
	} {
		head := binary.BigEndian.AppendUint32(nil, length)
		_, n, err := ParseFrame(head)
		assert.ErrorIs(t, err, want)
		assert.ErrorIs(t, err, ErrFrame)
		assert.Zero(t, n)
		_, err = NewReader(bytes.NewReader(head)).ReadFrame()
		assert.ErrorIs(t, err, want)
	}
	for n := range LengthSize {
		_, got, err := ParseFrame(make([]byte, n))
		assert.NoError(t, err)
		assert.Zero(t, got)
	}
}

// TestLargestFrame passes the largest frame and refuses to write one byte more.
func TestLargestFrame(t *testing.T) {
	want := Frame{ID: 1, Flags: 2, Body: make([]byte, MaxFrame-MinFrame)}
	want.Body[len(want.Body)-1] = 7
	b, err := AppendFrame(nil, want)
	require.NoError(t, err)
	assert.Len(t, b, want.Size())
	got, n, err := ParseFrame(b)
	require.NoError(t, err)
	assert.Equal(t, len(b), n)
	assert.True(t, bytes.Equal(want.Body, got.Body))
	got, err = NewReader(bytes.NewReader(b)).ReadFrame()
	require.NoError(t, err)
	assert.True(t, bytes.Equal(want.Body, got.Body))

	prefix := []byte("keep")
	for _, f := range []func() ([]byte, error){
		func() ([]byte, error) { return AppendFrame(prefix, Frame{Body: make([]byte, MaxFrame-MinFrame+1)}) },
		func() ([]byte, error) { return AppendDataMessage(prefix, 1, TypeFSData, make([]byte, MaxFrame)) },
		func() ([]byte, error) { return AppendDataMessage(prefix, 1, TypeFSData, make([]byte, MaxFrame+1)) },
		func() ([]byte, error) { return AppendMessage(prefix, 1, TypeFSData, Data{make([]byte, MaxFrame)}) },
		func() ([]byte, error) { return Message{Payload: make([]byte, MaxFrame)}.Append(prefix) },
	} {
		out, err := f()
		assert.ErrorIs(t, err, ErrFrameTooLarge)
		assert.Equal(t, prefix, out)
	}
}

// TestReaderMemory checks that a length field alone costs little: memory follows what
// arrives.
func TestReaderMemory(t *testing.T) {
	head := binary.BigEndian.AppendUint32(nil, MaxFrame)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := NewReader(io.MultiReader(bytes.NewReader(head), iotest.ErrReader(io.EOF))).ReadFrame()
	runtime.ReadMemStats(&after)
	assert.Equal(t, io.ErrUnexpectedEOF, err)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(512<<10))
}

func TestReaderEnds(t *testing.T) {
	whole, err := AppendMessage(nil, 9, TypePing, Empty{})
	require.NoError(t, err)
	r := NewReader(iotest.OneByteReader(bytes.NewReader(append(whole, whole...))))
	for range 2 {
		f, err := r.ReadFrame()
		require.NoError(t, err)
		assert.EqualValues(t, 9, f.ID)
	}
	_, err = r.ReadFrame()
	assert.Equal(t, io.EOF, err)
	for cut := 1; cut < len(whole); cut++ { // P3
		_, err := NewReader(bytes.NewReader(whole[:cut])).ReadFrame()
		assert.Equal(t, io.ErrUnexpectedEOF, err, cut)
		_, n, err := ParseFrame(whole[:cut])
		assert.NoError(t, err)
		assert.Zero(t, n)
	}
	broken := errors.New("broken")
	_, err = NewReader(io.MultiReader(bytes.NewReader(whole[:7]), iotest.ErrReader(broken))).ReadFrame()
	assert.Equal(t, broken, err)
}

func TestWriter(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out)
	require.NoError(t, w.WriteMessage(1, TypePing, Empty{}))
	require.NoError(t, w.WriteData(2, TypeFSData, make([]byte, 1<<20)))
	require.NoError(t, w.WriteFrame(Frame{ID: 3, Body: []byte{1}}))
	assert.Error(t, w.WriteMessage(4, TypeFSRequest, FSRequest{}))
	r := NewReader(&out)
	for id := uint32(1); id <= 3; id++ {
		f, err := r.ReadFrame()
		require.NoError(t, err)
		assert.Equal(t, id, f.ID)
	}
	_, err := r.ReadFrame()
	assert.Equal(t, io.EOF, err)
}

func TestEnvelopes(t *testing.T) {
	ready := Envelope{7, TypeReady, []byte{0xa0}}
	for name, tc := range map[string]struct {
		hex  string
		want Envelope
	}{
		"official":              {"a3 6176 07 6174 6a636f72652e7265616479 6170 41a0", ready},
		"cbor-x long map":       {"b90003 6176 05 6174 6a 636f72652e7265616479 6170 43 b90000", Envelope{5, TypeReady, []byte{0xb9, 0, 0}}},
		"other order":           {"a3 6170 41a0 6174 6a636f72652e7265616479 6176 07", ready},
		"unknown key":           {"a4 6178 8201a16179f9fc00 6176 07 6174 6a636f72652e7265616479 6170 41a0", ready},
		"trailing bytes":        {"a3 6176 07 6174 6a636f72652e7265616479 6170 41a0 ff00", ready},
		"long ints":             {"a3 6176 1b0000000000000007 6174 7a0000000a636f72652e7265616479 6170 5a00000001a0", ready},
		"indefinite":            {"bf 6176 07 6174 7f64636f7265662e7265616479ff 6170 5f41a0ff ff", ready},
		"tags":                  {"d9d9f7 a3 6176 c107 6174 d820 6a636f72652e7265616479 6170 d84041a0", ready},
		"payload as array":      {"a3 6176 07 6174 6a636f72652e7265616479 6170 8118a0", ready},
		"payload as open array": {"a3 6176 07 6174 6a636f72652e7265616479 6170 9f18a0ff", ready},
		"future generation":     {"a3 6176 18ff 6174 6163 6170 40", Envelope{255, "c", []byte{}}},
	} {
		got, err := ParseEnvelope(unhex(t, tc.hex))
		assert.NoError(t, err, name)
		assert.Equal(t, tc.want, got, name)
	}
	deep := "a4 6178" + strings.Repeat("81", MaxDepth+1) + "00 6176 07 6174 6163 6170 40"
	for name, text := range map[string]string{
		"empty":                "",
		"not a map":            "83 01 02 03",
		"no payload":           "a2 6176 07 6174 6163",
		"payload is a map":     "a3 6176 07 6174 6163 6170 a0",
		"payload is text":      "a3 6176 07 6174 6163 6170 6161",
		"generation 256":       "a3 6176 190100 6174 6163 6170 40",
		"negative generation":  "a3 6176 20 6174 6163 6170 40",
		"float generation":     "a3 6176 f94700 6174 6163 6170 40",
		"null generation":      "a3 6176 f6 6174 6163 6170 40",
		"duplicate key":        "a4 6176 07 6174 6163 6170 40 6170 40",
		"invalid utf-8":        "a3 6176 07 6174 61ff 6170 40",
		"key is a number":      "a3 01 07 6174 6163 6170 40",
		"array of 2^63":        "a3 6176 07 6174 6163 6170 9b8000000000000000",
		"bytes of 2^63":        "a3 6176 07 6174 6163 6170 5b8000000000000000",
		"map of 2^63":          "bb8000000000000000",
		"array of non-bytes":   "a3 6176 07 6174 6163 6170 81190100",
		"reserved head":        "a3 6176 1c 6174 6163 6170 40",
		"indefinite int":       "a3 6176 1f 6174 6163 6170 40",
		"stray break":          "a3 6176 ff 6174 6163 6170 40",
		"nested pieces":        "a3 6176 07 6174 6163 6170 5f5f41a0ffff",
		"mixed pieces":         "a3 6176 07 6174 6163 6170 5f6161ff",
		"open map never ends":  "bf 6176 07 6174 6163 6170 40",
		"depth bomb":           deep,
		"tag bomb":             strings.Repeat("c1", 100) + "a3 6176 07 6174 6163 6170 40",
		"cut off":              "a3 6176 07 6174 6163 6170 5800",
		"bad simple in unused": "a4 6178 f800 6176 07 6174 6163 6170 40",
	} {
		if name == "cut off" {
			text = "a3 6176 07 6174 6163 6170 5801"
		}
		_, err := ParseEnvelope(unhex(t, text))
		assert.ErrorIs(t, err, ErrEnvelope, name)
	}
}

func TestDataPayloads(t *testing.T) {
	want := []byte{1, 2, 3}
	for _, text := range []string{
		"a1 64 64617461 43 010203",
		"b90001 64 64617461 d840 43 010203", // cbor-x, Uint8Array
		"b90001 64 64617461 43 010203",      // cbor-x, Buffer
		"a1 64 64617461 83 010203",
		"a1 64 64617461 9f 010203 ff",
		"bf 64 64617461 5f 4101 420203 ff ff",
		"a2 6178 f6 64 64617461 43 010203 00",
	} {
		got, err := DecodeData(unhex(t, text))
		assert.NoError(t, err, text)
		assert.Equal(t, want, got, text)
		var d Data
		assert.NoError(t, Unmarshal(unhex(t, text), &d), text)
		assert.Equal(t, want, d.Data, text)
	}
	for _, text := range []string{
		"", "a0", "f6", "a1 64 64617461 f6", "a1 64 64617461 f7", "a1 64 64617461 63 616263",
		"a1 64 64617461 82 01 20", "a1 64 64617461 44 010203", "a2 64 64617461 40 64 64617461 40",
		"81 43 010203", "a1 64 44617461 43 010203",
	} {
		_, err := DecodeData(unhex(t, text))
		assert.ErrorIs(t, err, ErrPayload, text)
	}
}

func TestLenientPayloads(t *testing.T) {
	// A request as a lazy client writes it: only the command, undefined for the rest.
	var r ExecRequest
	require.NoError(t, Unmarshal(unhex(t, "b90004 63 636d64 61 78 63 637764 f7 64 75736572 f6 63 6e6577 d9010081f6"), &r))
	assert.Equal(t, ExecRequest{Cmd: "x", Rows: 24, Cols: 80}, r)

	var m FSRequest // Mkdir without its mode, in an open inner map
	require.NoError(t, Unmarshal(unhex(t, "a1 62 6f70 a1 65 4d6b646972 bf 64 70617468 62 2f64 ff"), &m))
	assert.Equal(t, FSMkdir{Path: "/d"}, m.Op)

	var resp FSResponse
	require.NoError(t, Unmarshal(unhex(t, "a3 62 6f6b f5 65 6572726f72 f7 64 64617461 f7"), &resp))
	assert.Equal(t, FSResponse{OK: true}, resp)

	var mac MAC // bytes where an array is expected
	require.NoError(t, Unmarshal(unhex(t, "46 010203040506"), &mac))
	assert.Equal(t, MAC{1, 2, 3, 4, 5, 6}, mac)
}

func TestStrictPayloads(t *testing.T) {
	for name, tc := range map[string]struct {
		hex string
		dst any
	}{
		"command missing":        {"a0", new(ExecRequest)},
		"args null":              {"a2 63 636d64 61 78 64 61726773 f6", new(ExecRequest)},
		"args of numbers":        {"a2 63 636d64 61 78 64 61726773 81 01", new(ExecRequest)},
		"float for integer":      {"a1 63 706964 fb 41f0000000000000", new(ExecStarted)},
		"integral float":         {"a1 63 706964 f9 4700", new(ExecStarted)},
		"NaN":                    {"a1 63 706964 f9 7e00", new(ExecStarted)},
		"negative for unsigned":  {"a1 63 706964 20", new(ExecStarted)},
		"beyond u32":             {"a1 63 706964 1b0000000100000000", new(ExecStarted)},
		"beyond i32":             {"a1 64 636f6465 1a80000000", new(ExecExited)},
		"duplicate key":          {"a2 63 706964 01 63 706964 02", new(ExecStarted)},
		"key in another case":    {"a1 63 504944 01", new(ExecStarted)},
		"struct as array":        {"81 01", new(ExecStarted)},
		"struct as null":         {"f6", new(Empty)},
		"missing nested key":     {"a1 6c 64656661756c745f75736572 a1 63 756964 00", new(InitResolved)},
		"null nested":            {"a1 6c 64656661756c745f75736572 f6", new(InitResolved)},
		"invalid utf-8":          {"a1 63 636d64 61 ff", new(ExecRequest)},
		"bytes for text":         {"a1 63 636d64 41 78", new(ExecRequest)},
		"depth bomb":             {"a2 63 636d64 61 78 61 61" + strings.Repeat("81", 100) + "00", new(ExecRequest)},
		"array of 2^63":          {"a2 63 636d64 61 78 64 61726773 9b8000000000000000", new(ExecRequest)},
		"variant in an open map": {"a1 62 6f70 bf 64 4c697374 a1 64 70617468 61 2f ff", new(FSRequest)},
		"two variants":           {"a1 62 6f70 a2 64 4c697374 a1 64 70617468 61 2f 64 53746174 a0", new(FSRequest)},
		"unknown variant":        {"a1 62 6f70 a1 64 4e6f7065 a0", new(FSRequest)},
		"unit variant":           {"a1 62 6f70 64 4c697374", new(FSRequest)},
		"variant without fields": {"a1 62 6f70 a1 64 4c697374 a0", new(FSRequest)},
		"open option missing":    {"a1 62 6f70 a1 68 4f70656e46696c65 a2 64 70617468 61 61 67 6f7074696f6e73 a1 64 72656164 f5", new(FSRequest)},
		"unknown result":         {"a2 62 6f6b f5 64 64617461 a1 61 58 00", new(FSResponse)},
		"list with a hole":       {"a2 62 6f6b f5 64 64617461 a1 64 4c697374 81 f6", new(FSResponse)},
		"short address":          {"83 01 02 03", new(IP)},
		"long mac":               {"47 01020304050607", new(MAC)},
		"not a pointer":          {"a0", Empty{}},
		"nil":                    {"a0", nil},
	} {
		assert.ErrorIs(t, Unmarshal(unhex(t, tc.hex), tc.dst), ErrPayload, name)
	}
}

// TestListAmplification checks that many tiny elements do not become much memory.
func TestListAmplification(t *testing.T) {
	b := unhex(t, "a2 62 6f6b f5 64 64617461 a1 64 4c697374 9a003fff00")
	b = append(b, make([]byte, 0x3fff00)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := Unmarshal(b, new(FSResponse))
	runtime.ReadMemStats(&after)
	assert.ErrorIs(t, err, ErrPayload)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20))
}

func TestFlagsAndGenerations(t *testing.T) {
	err := Message{Type: TypeExecRequest}.CheckFlags()
	assert.ErrorIs(t, err, ErrFlags)
	assert.EqualError(t, err, "invalid flags for core.exec.request: got 0, expected 2")
	assert.False(t, Type("core.future").Known())
	assert.Zero(t, Type("core.future").Flags())
	for _, tc := range []struct{ peer, want uint8 }{{1, 1}, {5, 5}, {7, 7}, {255, 7}} {
		got, err := Negotiate(tc.peer)
		assert.NoError(t, err)
		assert.Equal(t, tc.want, got)
	}
	_, err = Negotiate(0)
	assert.ErrorIs(t, err, ErrEnvelope)
}

func TestSlots(t *testing.T) {
	assert.EqualValues(t, 33554431, IDStep)
	assert.Equal(t, IDRange{33554432, 67108862}, SlotRange(1))
	assert.Equal(t, IDRange{4261412738, 4294967168}, SlotRange(127))
	_, ok := SlotOf(0)
	assert.False(t, ok)
	for slot := range MaxClients {
		r := SlotRange(slot)
		for _, id := range []uint32{r.Start, r.End - 1} {
			got, ok := SlotOf(id)
			assert.True(t, ok)
			assert.Equal(t, slot, got)
			assert.Equal(t, slot, int(min(id/IDStep, MaxClients-1))) // the relay's rule
			assert.True(t, r.Allows(id, 0))
		}
		assert.False(t, r.Contains(r.End))
		assert.False(t, r.Contains(r.Start-1))
	}
	assert.True(t, SlotRange(0).Allows(0, FlagShutdown))
	assert.False(t, SlotRange(0).Allows(0, FlagTerminal))
	assert.ErrorIs(t, IDRange{0, 1}.Validate(), ErrHandshake)
	assert.NoError(t, IDRange{0, 2}.Validate())
}

func TestErrnoTexts(t *testing.T) {
	assert.Equal(t, "No such file or directory (os error 2)", ErrnoText(2))
	assert.Equal(t, "I/O error (os error 5)", ErrnoText(5))
	assert.Equal(t, "Symbolic link loop (os error 40)", ErrnoText(40))
	assert.Equal(t, "No error information (os error 4095)", ErrnoText(4095))
	assert.Equal(t, "No error information (os error -1)", ErrnoText(-1))
	assert.Equal(t, "ENOENT", ErrnoName(2))
	assert.Empty(t, ErrnoName(0))
	assert.Empty(t, ErrnoName(-5))
	for errno := range errnos {
		if errnos[errno].name == "" {
			continue
		}
		got, ok := ParseErrno("x: " + ErrnoText(errno))
		assert.True(t, ok)
		assert.Equal(t, errno, got)
	}
	for _, text := range []string{"", "x", "(os error 2)", " (os error )", " (os error 2) ", " (os error -2)", " (os error 99999999999)", " (os error 0)"} {
		_, ok := ParseErrno(text)
		assert.False(t, ok, text)
	}
	assert.Equal(t, "EACCES", *ExecErrnoName(13))
	assert.Nil(t, ExecErrnoName(32))
	assert.Equal(t, "EPIPE", *StdinErrnoName(32))
	assert.Nil(t, StdinErrnoName(13))
	for errno, want := range map[int]ExecFailureKind{
		2: FailNotFound, 20: FailBadCwd, 13: FailPermissionDenied, 1: FailPermissionDenied, 8: FailNotExecutable,
		21: FailNotExecutable, 26: FailNotExecutable, 7: FailBadArgs, 40: FailBadArgs, 36: FailBadArgs, 14: FailBadArgs,
		24: FailResourceLimit, 23: FailResourceLimit, 11: FailResourceLimit, 12: FailOutOfMemory, 22: FailOther, 999: FailOther,
	} {
		assert.Equal(t, want, ExecFailureOf(errno), errno)
	}
}
