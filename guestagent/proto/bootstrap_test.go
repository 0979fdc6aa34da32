package proto

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestObservedBootstraps reads every bootstrap the official program was seen to write and
// writes it again, as JSON and through CBOR.
func TestObservedBootstraps(t *testing.T) {
	files, err := filepath.Glob("testdata/bootstrap-*.json")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 10)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			var b Bootstrap
			require.NoError(t, json.Unmarshal(want, &b))
			require.NoError(t, b.Validate())
			got, err := json.Marshal(b)
			require.NoError(t, err)
			assert.Equal(t, string(want), string(got))

			payload, err := AppendPayload(nil, &b)
			require.NoError(t, err)
			var again Bootstrap
			require.NoError(t, Unmarshal(payload, &again))
			assert.Equal(t, b, again)
		})
	}
}

func fullBootstrap() Bootstrap { return golden["bootstrap (typical OCI)"].payload.(Bootstrap) }

func TestBootstrapJSONAddresses(t *testing.T) {
	b := fullBootstrap()
	text, err := json.Marshal(b.Network)
	require.NoError(t, err)
	assert.JSONEq(t, `{"interface":"eth0","mac":[2,90,123,19,1,2],"mtu":1500,
		"ipv4":{"address":"172.16.0.2","prefix_len":30,"gateway":"172.16.0.1","dns":"172.16.0.1"}}`, string(text))
	var n Network
	require.NoError(t, json.Unmarshal(text, &n))
	assert.Equal(t, *b.Network, n)
	assert.Error(t, json.Unmarshal([]byte(`{"ipv4":{"address":"300.1.1.1"}}`), &n))

	six := Network{Interface: "e", IPv6: &Address{ip("fd00::2"), 64, ip("fd00::1"), nil}}
	payload, err := AppendPayload(nil, six)
	require.NoError(t, err)
	n = Network{}
	require.NoError(t, Unmarshal(payload, &n))
	assert.Equal(t, six, n)
}

func TestBootstrapZeroValue(t *testing.T) {
	zero, err := AppendPayload(nil, Bootstrap{})
	require.NoError(t, err)
	named, err := AppendPayload(nil, Bootstrap{SecurityProfile: ProfileDefault})
	require.NoError(t, err)
	assert.Equal(t, named, zero)
	text, err := json.Marshal(Bootstrap{})
	require.NoError(t, err)
	assert.Equal(t, `{"security_profile":"default"}`, string(text))
	var b Bootstrap
	require.NoError(t, Unmarshal([]byte{0xa0}, &b))
	assert.Equal(t, Bootstrap{SecurityProfile: ProfileDefault}, b)
	assert.NoError(t, (&Bootstrap{}).Validate())
	_, err = AppendPayload(nil, Bootstrap{Network: &Network{IPv4: &Address{}}})
	assert.ErrorIs(t, err, ErrPayload)
}

func TestBootstrapValidate(t *testing.T) {
	b := fullBootstrap()
	require.NoError(t, b.Validate())
	for name, spoil := range map[string]func(b *Bootstrap){
		"root kind":   func(b *Bootstrap) { b.BlockRoot = &BlockRoot{Kind: "tape"} },
		"root device": func(b *Bootstrap) { b.BlockRoot = &BlockRoot{Kind: RootDiskImage, Device: "vda"} },
		"root lower":  func(b *Bootstrap) { b.BlockRoot = &BlockRoot{Kind: RootOCIErofs, Upper: &Upper{Kind: UpperTmpfs}} },
		"no upper":    func(b *Bootstrap) { b.BlockRoot = &BlockRoot{Kind: RootOCIErofs, Lower: "/dev/vda"} },
		"upper kind":  func(b *Bootstrap) { b.BlockRoot = &BlockRoot{Kind: RootOCIErofs, Lower: "/l", Upper: &Upper{}} },
		"upper fstype": func(b *Bootstrap) {
			b.BlockRoot = &BlockRoot{Kind: RootOCIErofs, Lower: "/l", Upper: &Upper{Kind: UpperDevice, Device: "/d"}}
		},
		"empty tag":       func(b *Bootstrap) { b.DirMounts = []DirMount{{GuestPath: "/x"}} },
		"relative mount":  func(b *Bootstrap) { b.DirMounts = []DirMount{{Tag: "t", GuestPath: "x"}} },
		"file with slash": func(b *Bootstrap) { b.FileMounts = []FileMount{{Tag: "t", Filename: "../x", GuestPath: "/x"}} },
		"file dotdot":     func(b *Bootstrap) { b.FileMounts = []FileMount{{Tag: "t", Filename: "..", GuestPath: "/x"}} },
		"file empty":      func(b *Bootstrap) { b.FileMounts = []FileMount{{Tag: "t", GuestPath: "/x"}} },
		"disk without id": func(b *Bootstrap) { b.DiskMounts = []DiskMount{{GuestPath: "/x"}} },
		"relative tmpfs":  func(b *Bootstrap) { b.TmpfsMounts = []TmpfsMount{{Path: "tmp"}} },
		"NUL in path":     func(b *Bootstrap) { b.TmpfsMounts = []TmpfsMount{{Path: "/a\x00b"}} },
		"NUL in hostname": func(b *Bootstrap) { b.Hostname = "a\x00" },
		"profile":         func(b *Bootstrap) { b.SecurityProfile = "loose" },
		"env key empty":   func(b *Bootstrap) { b.DefaultEnv = []EnvVar{{"", "x"}} },
		"env key with =":  func(b *Bootstrap) { b.DefaultEnv = []EnvVar{{"a=b", "x"}} },
		"env value NUL":   func(b *Bootstrap) { b.DefaultEnv = []EnvVar{{"a", "\x00"}} },
		"interface":       func(b *Bootstrap) { b.Network = &Network{} },
		"family":          func(b *Bootstrap) { b.Network = &Network{Interface: "e", IPv4: &Address{ip("::1"), 8, ip("::1"), nil}} },
		"family of dns": func(b *Bootstrap) {
			b.Network = &Network{Interface: "e", IPv4: &Address{ip("1.2.3.4"), 8, ip("1.2.3.4"), ptr(ip("::1"))}}
		},
		"prefix": func(b *Bootstrap) {
			b.Network = &Network{Interface: "e", IPv4: &Address{ip("1.2.3.4"), 33, ip("1.2.3.4"), nil}}
		},
		"rlimit name":      func(b *Bootstrap) { b.Rlimits = []Rlimit{{"files", 1, 1}} },
		"rlimit twice":     func(b *Bootstrap) { b.Rlimits = []Rlimit{{"nofile", 1, 1}, {"NOFILE", 1, 1}} },
		"rlimit order":     func(b *Bootstrap) { b.Rlimits = []Rlimit{{"nofile", 2, 1}} },
		"handoff relative": func(b *Bootstrap) { b.HandoffInit = &HandoffInit{Cmd: "init"} },
		"handoff cwd":      func(b *Bootstrap) { b.HandoffInit = &HandoffInit{Cmd: "auto", Cwd: "x"} },
		"handoff arg":      func(b *Bootstrap) { b.HandoffInit = &HandoffInit{Cmd: "auto", Args: []string{"\x00"}} },
		"handoff env":      func(b *Bootstrap) { b.HandoffInit = &HandoffInit{Cmd: "auto", Env: []EnvVar{{}}} },
	} {
		b := fullBootstrap()
		spoil(&b)
		assert.ErrorIs(t, b.Validate(), ErrBootstrap, name)
	}
}

func TestRlimitNumbers(t *testing.T) {
	for name, want := range map[string]int{"cpu": 0, "NoFile": 7, "as": 9, "rttime": 15} {
		got, ok := RlimitNumber(name)
		assert.True(t, ok)
		assert.Equal(t, want, got)
	}
	_, ok := RlimitNumber("")
	assert.False(t, ok)
}
