//go:build linux

package boot

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// network is one whose host is n.
func network(n string) *proto.Network {
	at := func(s string) proto.IP { return proto.IP{Addr: netip.MustParseAddr(s)} }
	dns4, dns6 := at("10.0."+n+".1"), at("fd00:"+n+"::1")
	return &proto.Network{
		Interface: "eth0",
		IPv4:      &proto.Address{Address: at("10.0." + n + ".2"), PrefixLen: 30, Gateway: at("10.0." + n + ".1"), DNS: &dns4},
		IPv6:      &proto.Address{Address: at("fd00:" + n + "::2"), PrefixLen: 64, Gateway: at("fd00:" + n + "::1"), DNS: &dns6},
	}
}

func TestEdits(t *testing.T) {
	t.Parallel()
	was, now := network("1"), network("2")
	booted := func(name string, n *proto.Network) map[string]string {
		return map[string]string{
			"/etc/hosts":       hosts(&proto.Bootstrap{Hostname: name, HostAlias: "host.alias", Network: n}),
			"/etc/hostname":    name + "\n",
			"/etc/resolv.conf": resolvConf(n),
		}
	}
	all := edits(&proto.Renew{Hostname: "copy", HostAlias: "host.alias", Network: now}, "box", was)
	require.Len(t, all, 3)
	texts := map[string]func(string) string{}
	for _, e := range all {
		texts[e.file] = e.text
	}
	for file, text := range booted("box", was) {
		assert.Equal(t, booted("copy", now)[file], texts[file](text), "as a boot writes it: %s", file)
	}
	for _, c := range [][3]string{
		{"/etc/hosts", "# mine\n10.0.1.1\thost.alias\n9.9.9.9 me box\n::1 localhost box boxes\n", "# mine\n10.0.2.1\thost.alias\nfd00:2::1\thost.alias\n9.9.9.9 me box\n::1\tlocalhost copy boxes\n"},
		{"/etc/hosts", "127.0.1.1 box.local box # was here", "127.0.1.1\tbox.local copy # was here\n"},
		{"/etc/hosts", "", ""},
		{"/etc/hosts", "1.1.1.1 other host.alias\nbox box\n", "1.1.1.1 other host.alias\nbox box\n"},
		{"/etc/hostname", "mine\n", "mine\n"},
		{"/etc/resolv.conf", "nameserver 8.8.8.8\n", "nameserver 8.8.8.8\n"},
		{"/etc/resolv.conf", "search x\nnameserver fd00:1::1\noptions edns0\nnameserver 10.0.1.1\n", "search x\nnameserver 10.0.2.1\nnameserver fd00:2::1\noptions edns0\n"},
		{"/etc/resolv.conf", "nameserver 10.0.1.11\nnameserver\nnameserver  0.0.1.1\n", "nameserver 10.0.1.11\nnameserver\nnameserver  0.0.1.1\n"},
	} {
		assert.Equal(t, c[2], texts[c[0]](c[1]), "%s", c[0])
	}
	// What the host does not say stays.
	for _, e := range edits(&proto.Renew{}, "box", was) {
		text := booted("box", was)[e.file]
		assert.Equal(t, text, e.text(text), e.file)
	}
	for _, e := range edits(&proto.Renew{Hostname: "copy"}, "localhost", nil) {
		assert.Equal(t, "127.0.0.1 localhost\n", e.text("127.0.0.1 localhost\n"))
	}
}

func FuzzEdits(f *testing.F) {
	f.Add("127.0.0.1\tlocalhost box\n10.0.1.1\thost.alias\n", "nameserver 10.0.1.1\n")
	all := edits(&proto.Renew{Hostname: "copy", HostAlias: "host.alias", Network: network("2")}, "box", network("1"))
	f.Fuzz(func(t *testing.T, hosts, resolv string) {
		for i, text := range []string{hosts, hosts, resolv} {
			once := all[i].text(text)
			assert.Equal(t, once, all[i].text(once), "what is right stays")
		}
	})
}

// Whatever is in the place of a file, the edit neither waits for it nor replaces it.
func TestEditApply(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	upper := func(name string) error { return edit{path(name), strings.ToUpper}.apply() }
	read := func(name string) string {
		text, err := os.ReadFile(path(name))
		require.NoError(t, err)
		return string(text)
	}
	require.NoError(t, os.WriteFile(path("file"), []byte("abc"), 0o640))
	require.NoError(t, os.Symlink("file", path("link")))
	require.NoError(t, upper("link"))
	assert.Equal(t, "ABC", read("file"))
	require.NoError(t, edit{path("file"), func(string) string { return "x" }}.apply())
	assert.Equal(t, "x", read("file"), "it becomes shorter")
	require.NoError(t, edit{path("file"), func(s string) string { return s + strings.Repeat("y", 5000) }}.apply())
	assert.Len(t, read("file"), 5001)
	st, err := os.Stat(path("file"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o640), st.Mode())

	require.NoError(t, upper("none"), "what is not there stays away")
	assert.NoFileExists(t, path("none"))
	require.NoError(t, os.Symlink("none", path("dangling")))
	require.NoError(t, upper("dangling"))
	assert.NoFileExists(t, path("none"))
	require.NoError(t, unix.Mkfifo(path("fifo"), 0o600))
	require.NoError(t, os.Symlink("/dev/zero", path("device")))
	require.NoError(t, os.Symlink("loop", path("loop")))
	require.NoError(t, os.WriteFile(path("huge"), nil, 0o600))
	require.NoError(t, os.Truncate(path("huge"), maxEtc+1))
	for name, text := range map[string]string{
		"fifo": "not an ordinary file", "device": "not an ordinary file", ".": "is a directory", "loop": "too many levels", "huge": "at most 1048576 bytes", "file/x": "not a directory",
	} {
		err := upper(name)
		require.ErrorContains(t, err, text, name)
		require.ErrorContains(t, err, "edit "+path(name), name)
	}
	var said []string
	editEtc([]edit{{path("fifo"), strings.ToUpper}, {path("file"), func(string) string { return "z" }}}, func(s string) { said = append(said, s) })
	assert.Len(t, said, 1)
	assert.Equal(t, "z", read("file"), "one that fails holds up no other")
}
