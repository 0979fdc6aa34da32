package proto

import (
	"bufio"
	"encoding/hex"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func ptr[T any](v T) *T { return &v }

var hostsEntry = FSEntry{
	Path: "/etc/hosts", Kind: EntryFile, Size: 174, Mode: 0o100644,
	Modified: ptr[int64](1700000000), Atime: ptr[int64](1700000001), Mtime: ptr[int64](1700000000),
}

func req(op FSOp) FSRequest { return FSRequest{Op: op} }

func ip(s string) IP { return IP{netip.MustParseAddr(s)} }

// golden maps each name in testdata/golden.txt to the message that must produce it and
// that it must decode to.
var golden = map[string]struct {
	id      uint32
	typ     Type
	payload any
}{
	"ready (gen 5)": {0, TypeReady, Ready{180000000, 25000000, 210000000, "0.5.7", false, 0}},
	"init.resolved": {0, TypeInitResolved, InitResolved{DefaultUser{1000, 1000}}},
	"init.ack":      {0, TypeInitAck, Empty{}},
	"shutdown (SDK and host: payload = CBOR null)": {0, TypeShutdown, nil},
	"relay.client.disconnected":                    {0, TypeClientDisconnected, ClientDisconnected{1, 33554431}},
	"clock.sync":                                   {0, TypeClockSync, ClockSync{1700000000000000000}},
	"core.error":                                   {5, TypeError, CoreError{KindInvalidPayload, "bad", ptr(TypeExecRequest)}},
	"exec.request (pipe)": {1, TypeExecRequest, ExecRequest{
		Cmd: "/bin/echo", Args: []string{"hi"}, Env: []string{}, Cwd: ptr("/"), Rows: 24, Cols: 80, Rlimits: []Rlimit{},
	}},
	"exec.request (tty, user, rlimit)": {2, TypeExecRequest, ExecRequest{
		Cmd: "sh", Args: []string{}, Env: []string{"TERM=xterm"}, Cwd: ptr("/srv"), User: ptr("1000:1000"), TTY: true,
		Rows: 40, Cols: 120, Rlimits: []Rlimit{{"nofile", 1024, 4096}},
	}},
	"exec.started":                      {1, TypeExecStarted, ExecStarted{42}},
	"exec.stdin":                        {1, TypeExecStdin, Data{[]byte("abc\n")}},
	"exec.stdin EOF":                    {1, TypeExecStdin, Data{[]byte{}}},
	"exec.stdin.error":                  {1, TypeExecStdinError, ExecStdinError{ptr[int32](32), StdinErrnoName(32), "io error: " + ErrnoText(32)}},
	"exec.stdout":                       {1, TypeExecStdout, Data{[]byte("hi\n")}},
	"exec.stderr":                       {1, TypeExecStderr, Data{[]byte("err")}},
	"exec.exited 0":                     {1, TypeExecExited, ExecExited{0}},
	"exec.exited 127":                   {1, TypeExecExited, ExecExited{127}},
	"exec.exited -1 (killed by signal)": {1, TypeExecExited, ExecExited{-1}},
	"exec.failed": {3, TypeExecFailed, ExecFailed{
		FailNotFound, ptr[int32](2), ExecErrnoName(2), `spawn "nope": ` + ErrnoText(2), ptr("Command::spawn"),
	}},
	"exec.resize":              {2, TypeExecResize, ExecResize{50, 132}},
	"exec.signal":              {1, TypeExecSignal, ExecSignal{15}},
	"fs.request Stat":          {10, TypeFSRequest, req(FSStat{"/etc/hosts", true})},
	"fs.request List":          {11, TypeFSRequest, req(FSList{"/tmp"})},
	"fs.request OpenFile read": {12, TypeFSRequest, req(FSOpenFile{"/a", FSOpenOptions{Read: true}})},
	"fs.request OpenFile write+create+truncate": {13, TypeFSRequest, req(FSOpenFile{
		"/a", FSOpenOptions{Write: true, Create: true, Truncate: true},
	})},
	"fs.request Read":               {14, TypeFSRequest, req(FSRead{1, 0, nil})},
	"fs.request Write":              {15, TypeFSRequest, req(FSWrite{2, 0, ptr[uint64](5)})},
	"fs.request CloseHandle":        {16, TypeFSRequest, req(FSCloseHandle{1})},
	"fs.request OpenDir":            {17, TypeFSRequest, req(FSOpenDir{"/tmp"})},
	"fs.request ReadDir":            {18, TypeFSRequest, req(FSReadDir{3, nil})},
	"fs.request Mkdir":              {19, TypeFSRequest, req(FSMkdir{"/d", ptr[uint32](0o755)})},
	"fs.request Rename":             {21, TypeFSRequest, req(FSRename{"/a", "/b"})},
	"fs.request SetStat chmod 0600": {20, TypeFSRequest, req(FSSetStat{"/a", true, FSAttrs{Mode: ptr[uint32](0o600)}})},
	"fs.data":                       {15, TypeFSData, Data{[]byte("hello")}},
	"fs.data EOF":                   {15, TypeFSData, Data{[]byte{}}},
	"fs.response ok":                {15, TypeFSResponse, FSResponse{OK: true}},
	"fs.response error":             {10, TypeFSResponse, FSResponse{Error: ptr("stat: " + ErrnoText(2))}},
	"fs.response Handle":            {12, TypeFSResponse, FSResponse{OK: true, Data: &FSResult{Kind: ResultHandle, Handle: 1}}},
	"fs.response Path":              {22, TypeFSResponse, FSResponse{OK: true, Data: &FSResult{Kind: ResultPath, Path: "/etc"}}},
	"fs.response Stat":              {10, TypeFSResponse, FSResponse{OK: true, Data: &FSResult{Kind: ResultStat, Entry: hostsEntry}}},
	"fs.response List (1 entry)": {11, TypeFSResponse, FSResponse{
		OK: true, Data: &FSResult{Kind: ResultList, Entries: []FSEntry{hostsEntry}},
	}},
	"fs.response List (empty)": {18, TypeFSResponse, FSResponse{OK: true, Data: &FSResult{Kind: ResultList, Entries: []FSEntry{}}}},
	"tcp.connect":              {30, TypeTCPConnect, TCPConnect{"127.0.0.1", 8080}},
	"tcp.connected":            {30, TypeTCPConnected, Empty{}},
	"tcp.data":                 {30, TypeTCPData, Data{[]byte("GET")}},
	"tcp.eof":                  {30, TypeTCPEOF, Empty{}},
	"tcp.close":                {30, TypeTCPClose, Empty{}},
	"tcp.closed":               {30, TypeTCPClosed, Empty{}},
	"tcp.failed":               {30, TypeTCPFailed, TCPFailed{"connect 127.0.0.1:1: " + ErrnoText(111)}},
	"ready (gen 7)":            {0, TypeReady, Ready{180000000, 25000000, 210000000, "0.6.14", false, 0}},
	"ping":                     {9, TypePing, Empty{}},
	"pong":                     {9, TypePong, Empty{}},
	"touch":                    {10, TypeTouch, Empty{}},
	"touched":                  {10, TypeTouched, Touched{42}},
	"bootstrap (all defaults)": {0, TypeBootstrap, Bootstrap{SecurityProfile: ProfileDefault}},
	"bootstrap (typical OCI)": {0, TypeBootstrap, Bootstrap{
		BlockRoot:   &BlockRoot{Kind: RootOCIErofs, Lower: "/dev/vda", Upper: &Upper{Kind: UpperDevice, Device: "/dev/vdb", FSType: "ext4"}},
		DirMounts:   []DirMount{{"data_12345678", "/data", MountFlags{ReadOnly: true}}},
		TmpfsMounts: []TmpfsMount{{Path: "/tmp", SizeMiB: ptr[uint32](64), Mode: ptr[uint32](0o1777)}},
		Hostname:    "box",
		HostAlias:   "host.microsandbox.internal",
		Network: &Network{
			Interface: "eth0", MAC: MAC{2, 90, 123, 19, 1, 2}, MTU: 1500,
			IPv4: &Address{ip("172.16.0.2"), 30, ip("172.16.0.1"), ptr(ip("172.16.0.1"))},
		},
		Rlimits:         []Rlimit{{"nofile", 65535, 65535}},
		User:            "1000",
		DefaultCwd:      "/app",
		DefaultEnv:      []EnvVar{{"A", "b"}},
		SecurityProfile: ProfileRestricted,
		HandoffInit:     &HandoffInit{Cmd: "auto"},
	}},
}

type goldenLine struct {
	name  string
	frame []byte
}

func goldenLines(t testing.TB) []goldenLine {
	t.Helper()
	b, err := os.ReadFile("testdata/golden.txt")
	require.NoError(t, err)
	var out []goldenLine
	for line := range strings.Lines(string(b)) {
		name, text, ok := strings.Cut(strings.TrimSpace(line), "\t")
		require.True(t, ok, line)
		frame, err := hex.DecodeString(text)
		require.NoError(t, err)
		out = append(out, goldenLine{name, frame})
	}
	return out
}

func TestGoldenFrames(t *testing.T) {
	lines := goldenLines(t)
	require.Len(t, lines, len(golden))
	for _, line := range lines {
		t.Run(line.name, func(t *testing.T) {
			want, ok := golden[line.name]
			require.True(t, ok, "no message for this name")

			f, n, err := ParseFrame(line.frame)
			require.NoError(t, err)
			require.Equal(t, len(line.frame), n)
			m, err := ParseMessage(f)
			require.NoError(t, err)
			assert.Equal(t, want.id, m.ID)
			assert.Equal(t, want.typ, m.Type)
			assert.NoError(t, m.CheckFlags())
			if want.payload == nil {
				assert.Equal(t, []byte{0xf6}, m.Payload)
			} else {
				got := reflect.New(reflect.TypeOf(want.payload))
				require.NoError(t, m.Decode(got.Interface()))
				assert.Equal(t, want.payload, got.Elem().Interface())
			}

			payload, err := AppendPayload(nil, want.payload)
			require.NoError(t, err)
			out, err := Message{m.ID, want.typ.Flags(), m.Generation, want.typ, payload}.Append(nil)
			require.NoError(t, err)
			assert.Equal(t, hex.EncodeToString(line.frame), hex.EncodeToString(out))
			if m.Generation == Generation {
				out, err = AppendMessage([]byte("x"), want.id, want.typ, want.payload)
				require.NoError(t, err)
				assert.Equal(t, "x"+string(line.frame), string(out))
			}
		})
	}
}

func TestHandshakeGolden(t *testing.T) {
	b, err := os.ReadFile("testdata/handshake.txt")
	require.NoError(t, err)
	raw, err := hex.DecodeString(strings.TrimSpace(string(b)))
	require.NoError(t, err)
	h, err := NewReader(strings.NewReader(string(raw))).ReadHandshake()
	require.NoError(t, err)
	assert.Equal(t, SlotRange(0), h.IDs)
	assert.Equal(t, IDRange{1, 33554431}, h.IDs)
	assert.Equal(t, uint8(5), h.Generation)
	assert.Equal(t, "0.5.7", h.Ready.AgentVersion)
	assert.Equal(t, raw[:8], h.IDs.Append(nil))
	assert.Equal(t, raw[8+9:], h.ReadyBody)
}

// TestObservedFrames replays a conversation with the official agent: every frame must
// decode, keep its derived flags, and encode again to the same bytes.
func TestObservedFrames(t *testing.T) {
	f, err := os.Open("testdata/observed-0.6.18.txt")
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	payloads := map[Type]func() any{
		TypeReady: newOf[Ready], TypePing: newOf[Empty], TypePong: newOf[Empty], TypeTouch: newOf[Empty],
		TypeTouched: newOf[Touched], TypeError: newOf[CoreError],
		TypeExecRequest: newOf[ExecRequest], TypeExecStarted: newOf[ExecStarted], TypeExecStdin: newOf[Data],
		TypeExecStdout: newOf[Data], TypeExecStderr: newOf[Data], TypeExecExited: newOf[ExecExited],
		TypeExecFailed: newOf[ExecFailed], TypeFSRequest: newOf[FSRequest], TypeFSResponse: newOf[FSResponse],
		TypeFSData: newOf[Data], TypeTCPConnect: newOf[TCPConnect], TypeTCPFailed: newOf[TCPFailed],
	}
	seen := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		text, ok := strings.CutPrefix(s.Text(), "   ")
		if !ok {
			continue
		}
		raw, err := hex.DecodeString(text)
		require.NoError(t, err)
		frame, n, err := ParseFrame(raw)
		require.NoError(t, err)
		require.Equal(t, len(raw), n)
		m, err := ParseMessage(frame)
		require.NoError(t, err)
		if frame.ID != 26 || m.Type != TypeExecRequest { // the one sent with wrong flags on purpose
			require.NoError(t, m.CheckFlags(), text)
		}
		make, ok := payloads[m.Type]
		require.True(t, ok, m.Type)
		v := make()
		require.NoError(t, m.Decode(v), m.Type)
		again, err := AppendPayload(nil, v)
		require.NoError(t, err)
		assert.Equal(t, m.Payload, again, m.Type)
		whole, err := Message{m.ID, m.Flags, m.Generation, m.Type, again}.Append(nil)
		require.NoError(t, err)
		assert.Equal(t, raw, whole)
		seen++
	}
	assert.Greater(t, seen, 60)
}

func newOf[T any]() any { return new(T) }
