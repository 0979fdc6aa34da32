//go:build linux

package netconf

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// The loopback stands for an interface; the end-to-end tests try a real one.
func TestReplace(t *testing.T) {
	t.Parallel()
	isolated(t, func() {
		first := &proto.Network{Interface: "lo", MAC: proto.MAC{2, 1, 2, 3, 4, 5}, MTU: 1234, IPv4: address("10.9.8.7/30", "10.9.8.6")}
		if !assert.NoError(t, Setup(first)) {
			return
		}
		second := &proto.Network{
			Interface: "lo", MAC: proto.MAC{2, 9, 9, 9, 9, 9}, MTU: 2000,
			IPv4: address("10.9.9.3/30", "10.9.9.2"), IPv6: address("fd00:2::7/64", "fd00:2::1"),
		}
		was, err := Replace(second)
		if !assert.NoError(t, err) {
			return
		}
		assert.Contains(t, was, netip.MustParseAddr("10.9.8.7"))
		assert.Contains(t, was, netip.MustParseAddr("127.0.0.1"))
		link, err := net.InterfaceByName("lo")
		if !assert.NoError(t, err) {
			return
		}
		assert.Equal(t, 2000, link.MTU)
		flags, addrs := addresses(t, "lo")
		assert.Contains(t, flags, "up")
		assert.Contains(t, addrs, "10.9.9.3/30")
		assert.Contains(t, addrs, "fd00:2::7/64")
		assert.NotContains(t, addrs, "10.9.8.7/30")

		was, err = Replace(second) // what is there already is in nobody's way
		assert.NoError(t, err)
		assert.Contains(t, was, netip.MustParseAddr("10.9.9.3"))
		assert.Contains(t, was, netip.MustParseAddr("fd00:2::7"))
		_, err = Replace(&proto.Network{Interface: "eth9"})
		assert.ErrorIs(t, err, ErrNoInterface)
	})
}

// connected is both ends of a TCP connection to l.
func connected(t *testing.T, l net.Listener) (dialled, accepted net.Conn) {
	t.Helper()
	dialled, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	accepted, err = l.Accept()
	require.NoError(t, err)
	return dialled, accepted
}

// alive reports that a connection takes data still.
func alive(c net.Conn) bool {
	_, err := c.Write([]byte("x"))
	return err == nil
}

// canDestroy finds out whether the kernel destroys sockets at all.
func canDestroy(t *testing.T, own net.Addr) bool {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	require.NoError(t, err)
	defer func() { _ = unix.Close(fd) }()
	found := false
	require.NoError(t, dump(fd, sockDiagByFamily, socketRequest(unix.AF_INET, unix.IPPROTO_TCP, make([]byte, socketIDSize)), func(body []byte) error {
		id, _, err := parseSocket(body)
		if err == nil && int(binary.BigEndian.Uint16(id)) == own.(*net.TCPAddr).Port {
			b := &batch{}
			b.begin("try", sockDestroy, 0)
			b.buf = append(b.buf, socketRequest(unix.AF_INET, unix.IPPROTO_TCP, id)...)
			other, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
			require.NoError(t, err)
			found = b.run(other) == nil
			_ = unix.Close(other)
		}
		return err
	}))
	return found
}

func TestSever(t *testing.T) {
	t.Parallel()
	isolated(t, func() {
		if err := Setup(&proto.Network{Interface: "lo", IPv4: address("10.9.8.7/30", "10.9.8.6")}); !assert.NoError(t, err) {
			return
		}
		old, loopback := netip.MustParseAddr("10.9.8.7"), netip.MustParseAddr("127.0.0.1")
		listen := func(at netip.Addr) net.Listener {
			var plain net.ListenConfig
			plain.SetMultipathTCP(false) // listeners of that cannot be destroyed
			l, err := plain.Listen(t.Context(), "tcp4", netip.AddrPortFrom(at, 0).String())
			require.NoError(t, err)
			t.Cleanup(func() { _ = l.Close() })
			return l
		}
		all, own, local := listen(netip.IPv4Unspecified()), listen(old), listen(loopback)
		mapped, err := net.Listen("tcp", "[::]:0") // takes IPv4, too
		require.NoError(t, err)
		defer func() { _ = mapped.Close() }()
		_, port, err := net.SplitHostPort(mapped.Addr().String())
		require.NoError(t, err)

		probe, probed := connected(t, local)
		can := canDestroy(t, probe.LocalAddr())
		a, b := connected(t, own)
		c, d := connected(t, local)
		e, err := net.Dial("tcp", old.String()+":"+port)
		require.NoError(t, err)
		f, err := mapped.Accept()
		require.NoError(t, err)
		talk, err := net.DialUDP("udp4", &net.UDPAddr{IP: old.AsSlice()}, &net.UDPAddr{IP: old.AsSlice(), Port: 9})
		require.NoError(t, err)
		hear, err := net.ListenUDP("udp4", &net.UDPAddr{IP: old.AsSlice()})
		require.NoError(t, err)
		for _, x := range []net.Conn{a, b, c, d, e, f, probe, probed, talk, hear} {
			defer func() { _ = x.Close() }()
		}

		assert.NoError(t, Sever([]netip.Addr{old}, &proto.Network{IPv4: address("10.9.8.7/30", "10.9.8.6")}))
		for i, x := range []net.Conn{a, b, e, f} {
			assert.Equal(t, !can, alive(x), "connection %d of the old address", i)
		}
		assert.True(t, alive(c) && alive(d), "connections of the loopback stay")
		_, err = talk.Write([]byte("x"))
		assert.Equal(t, !can, err == nil, "a connected socket of UDP: %v", err)
		_, err = hear.WriteTo([]byte("x"), hear.LocalAddr())
		assert.NoError(t, err, "sockets that are not connected stay")
		g, h := connected(t, own)
		assert.True(t, alive(g) && alive(h), "the address is the copy's as well: its listener stays")
		_ = g.Close()
		_ = h.Close()

		assert.NoError(t, Sever([]netip.Addr{old}, &proto.Network{IPv4: address("10.9.9.3/30", "10.9.9.2")}))
		if can {
			_, err = net.DialTimeout("tcp", own.Addr().String(), time.Second)
			assert.Error(t, err, "nobody listens at an address that is gone")
		}
		i, j := connected(t, all)
		assert.True(t, alive(i) && alive(j), "who listens on all addresses goes on")
		_ = i.Close()
		_ = j.Close()
	})
}

func TestParseAddress(t *testing.T) {
	t.Parallel()
	head := []byte{unix.AF_INET, 24, 0, 0, 3, 0, 0, 0}
	attribute := func(typ byte, value ...byte) []byte { return append([]byte{byte(4 + len(value)), 0, typ, 0}, value...) }
	for name, test := range map[string]struct {
		body []byte
		want string
	}{
		"address":        {attribute(unix.IFA_ADDRESS, 1, 2, 3, 4), "1.2.3.4/24"},
		"point to point": {append(attribute(unix.IFA_LOCAL, 1, 2, 3, 4), attribute(unix.IFA_ADDRESS, 9, 9, 9, 9)...), "1.2.3.4/24"},
		"padding":        {append([]byte{5, 0, 9, 0, 1, 0, 0, 0}, attribute(unix.IFA_ADDRESS, 1, 2, 3, 4)...), "1.2.3.4/24"},
		"none":           {nil, ""},
		"odd length":     {attribute(unix.IFA_ADDRESS, 1, 2, 3), ""},
	} {
		a, index, err := parseAddress(append(append([]byte(nil), head...), test.body...))
		require.NoError(t, err, name)
		assert.EqualValues(t, 3, index, name)
		if test.want == "" {
			assert.False(t, a.IsValid(), name)
		} else {
			assert.Equal(t, test.want, a.String(), name)
		}
	}
}

func FuzzObjects(f *testing.F) {
	f.Add(ack(1, unix.EPERM))
	f.Add(append(binary.NativeEndian.AppendUint32(nil, 24), make([]byte, 20)...))
	f.Fuzz(func(t *testing.T, p []byte) {
		_, _ = objects(p, func(body []byte) error {
			if _, _, err := parseAddress(body); err != nil {
				assert.ErrorIs(t, err, errAnswer)
			}
			if id, _, err := parseSocket(body); err == nil {
				assert.Len(t, id, socketIDSize)
			}
			return nil
		})
	})
}
