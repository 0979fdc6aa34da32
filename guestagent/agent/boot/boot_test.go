//go:build linux

package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// script is a host that has said everything already.
type script struct {
	in      []byte
	out     bytes.Buffer
	timeout bool // instead of the end of the stream
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		if s.timeout {
			return 0, os.ErrDeadlineExceeded
		}
		return 0, io.EOF
	}
	n := copy(p, s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error)        { return s.out.Write(p) }
func (s *script) SetReadTimeout(time.Duration) error { return nil }

func message(t *testing.T, id uint32, generation uint8, typ proto.Type, flags proto.Flags, payload any) []byte {
	t.Helper()
	p, err := proto.AppendPayload(nil, payload)
	require.NoError(t, err)
	b, err := proto.Message{ID: id, Flags: flags, Generation: generation, Type: typ, Payload: p}.Append(nil)
	require.NoError(t, err)
	return b
}

func TestReceive(t *testing.T) {
	t.Parallel()
	good := message(t, 0, 7, proto.TypeBootstrap, 0, proto.Bootstrap{Hostname: "h"})
	after := message(t, 0, 7, proto.TypeInitAck, 0, proto.Empty{})
	s := &script{in: append(append([]byte(nil), good...), after...)}
	b, err := receive(s)
	require.NoError(t, err)
	assert.Equal(t, "h", b.Hostname)
	assert.Equal(t, after, s.in, "no byte more was taken")
	require.NoError(t, awaitAck(s))

	for text, in := range map[string][]byte{
		"EOF":                          {},
		"unexpected EOF":               good[:20],
		"shorter than":                 {0, 0, 0, 1},
		"malformed message envelope":   {0, 0, 0, 6, 0, 0, 0, 0, 0, 0xff},
		`sent "core.init.ack", not`:    after,
		"with id 5, not 0":             message(t, 5, 7, proto.TypeBootstrap, 0, proto.Bootstrap{}),
		"invalid flags":                message(t, 0, 7, proto.TypeBootstrap, 1, proto.Bootstrap{}),
		"of protocol generation 6":     message(t, 0, 6, proto.TypeBootstrap, 0, proto.Bootstrap{}),
		"invalid message payload":      message(t, 0, 7, proto.TypeBootstrap, 0, nil),
		"invalid bootstrap: hostname ": message(t, 0, 7, proto.TypeBootstrap, 0, proto.Bootstrap{Hostname: "a\x00"}),
	} {
		_, err := receive(&script{in: in})
		assert.ErrorContains(t, err, text)
	}
	_, err = receive(&script{in: message(t, 0, 9, proto.TypeBootstrap, 0, proto.Bootstrap{})})
	require.NoError(t, err, "newer hosts are welcome")
	_, err = receive(&script{timeout: true})
	require.ErrorIs(t, err, errSilent)
}

// broken is a host that has gone, as a copy of a saved guest finds it.
type broken struct {
	script
	err error
}

func (b *broken) Read([]byte) (int, error) { return 0, fmt.Errorf("read: %w", b.err) }

func TestReceiveInACopy(t *testing.T) {
	t.Parallel()
	for _, errno := range []unix.Errno{unix.ECONNRESET, unix.ENOTCONN} {
		_, err := Run(&broken{err: errno})
		require.ErrorIs(t, err, ErrCopied)
	}
	_, err := Run(&broken{err: unix.EIO})
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrCopied)

	bootstrap := message(t, 0, 7, proto.TypeBootstrap, 0, proto.Bootstrap{Hostname: "h"})
	for text, in := range map[string][]byte{
		"invalid renewal: time 1, 3 bytes": message(t, 0, 7, proto.TypeRenew, 0, proto.Renew{UnixTimeNanos: 1, Entropy: []byte("abc")}),
		"invalid renewal: time 1844":       message(t, 0, 7, proto.TypeRenew, 0, proto.Renew{UnixTimeNanos: 1<<64 - 1, Entropy: make([]byte, 64)}),
		"with id 5, not 0":                 message(t, 5, 7, proto.TypeRenew, 0, proto.Renew{}),
	} {
		_, err := receive(&script{in: append(in, bootstrap...)})
		assert.ErrorContains(t, err, text)
	}
}

// What makes no sense is refused before anything is mounted.
func TestRunRefuses(t *testing.T) {
	t.Parallel()
	for text, b := range map[string]proto.Bootstrap{
		"is the root":          {TmpfsMounts: []proto.TmpfsMount{{Path: "/"}}},
		"not a known resource": {Rlimits: []proto.Rlimit{{Resource: "bogus"}}},
	} {
		_, err := Run(&script{in: message(t, 0, 7, proto.TypeBootstrap, 0, b)})
		require.ErrorContains(t, err, text)
		var e *Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, KindConfig, e.Kind)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	for want, err := range map[proto.ErrorKind]error{
		KindMount: fail(KindMount, "mount x", unix.EIO), KindConfig: errors.New("whatever"), KindImage: &Error{Kind: KindImage, Err: unix.ENODEV},
	} {
		var s script
		Report(&s, err)
		f, n, perr := proto.ParseFrame(s.out.Bytes())
		require.NoError(t, perr)
		require.Equal(t, s.out.Len(), n)
		m, perr := proto.ParseMessage(f)
		require.NoError(t, perr)
		require.NoError(t, m.CheckFlags())
		var p proto.CoreError
		require.NoError(t, m.Decode(&p))
		assert.Equal(t, want, p.Kind)
		assert.Equal(t, err.Error(), p.Message)
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	const tail = "fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
	assert.Equal(t, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"+tail, hosts(&proto.Bootstrap{HostAlias: "host.x"}))
	ip := func(s string) proto.IP { return proto.IP{Addr: netip.MustParseAddr(s)} }
	b := &proto.Bootstrap{
		Hostname: "box", HostAlias: "host.x",
		Network: &proto.Network{IPv4: &proto.Address{Gateway: ip("172.16.0.1"), DNS: ptr(ip("172.16.0.53"))}, IPv6: &proto.Address{Gateway: ip("fd00::1")}},
	}
	assert.Equal(t, "127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback box\n172.16.0.1\thost.x\nfd00::1\thost.x\n"+tail, hosts(b))
	assert.Equal(t, "nameserver 172.16.0.53\n", resolvConf(b.Network))
	b.Network.IPv6.DNS = ptr(ip("fd00::53"))
	assert.Equal(t, "nameserver 172.16.0.53\nnameserver fd00::53\n", resolvConf(b.Network))
	assert.Empty(t, resolvConf(&proto.Network{}))
	assert.Empty(t, resolvConf(nil))
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []string{"HOME=/", "TERM=linux", "PATH=/.msb/scripts:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, environment(nil))
	assert.Equal(t, []string{"HOME=/h", "TERM=linux", "A=2", "PATH=/.msb/scripts:/p2"}, environment([]proto.EnvVar{
		{Key: "A", Value: "1"}, {Key: "PATH", Value: "/p1"}, {Key: "A", Value: "2"}, {Key: "HOME", Value: "/h"}, {Key: "PATH", Value: "/p2"},
	}))
}

func TestParseTypes(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []string{"ext4", "erofs"}, parseTypes("nodev\tsysfs\n\text4\nnodev\tproc\n\terofs\njunk\n\t\n"))
	assert.Equal(t, []string{"ext4", "ext3", "ext2", "xfs"}, parseTypes("\text3\n\text2\n\text4\n\txfs\n"))
	assert.Equal(t, "noload", dataFor("ext4", unix.MS_RDONLY, ""))
	assert.Empty(t, dataFor("ext4", 0, ""))
	assert.Empty(t, dataFor("xfs", unix.MS_RDONLY, ""))
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, prepare := range map[string]func(path string) error{
		"missing":       func(string) error { return nil },
		"longer":        func(path string) error { return os.WriteFile(path, make([]byte, 1000), 0o600) },
		"dangling link": func(path string) error { return os.Symlink("../run/nowhere", path) },
		"dir/missing":   func(string) error { return nil },
		"link": func(path string) error {
			return errors.Join(os.WriteFile(path+".target", []byte("old"), 0o600), os.Symlink(filepath.Base(path)+".target", path))
		},
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, prepare(path))
		require.NoError(t, writeFile(path, "text"), name)
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, "text", string(got), name)
		st, err := os.Stat(path)
		require.NoError(t, err)
		assert.EqualValues(t, 0o644, st.Mode().Perm(), name)
	}
	require.Error(t, writeFile(dir, "text"))
	require.ErrorIs(t, writeFile(filepath.Join(dir, "longer", "x"), "text"), unix.ENOTDIR)
}

func TestFindDisk(t *testing.T) {
	t.Parallel()
	sys := t.TempDir()
	for name, serial := range map[string]string{"vda": "", "vdb": "data_1234\n", "sdc": "other\n", "vdd": "other"} {
		require.NoError(t, os.Mkdir(filepath.Join(sys, name), 0o755))
		if serial != "" {
			require.NoError(t, os.WriteFile(filepath.Join(sys, name, "serial"), []byte(serial), 0o644))
		}
	}
	for serial, want := range map[string]string{"data_1234": "/dev/vdb", "other": "/dev/vdd"} {
		got, err := findDisk(sys, serial)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	_, err := findDisk(sys, "none")
	require.ErrorContains(t, err, `no disk has the serial "none"`)
}
