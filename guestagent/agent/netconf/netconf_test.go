//go:build linux

package netconf

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// isolated runs f in a network name space of its own, which ends with the thread.
func isolated(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread is not to be used again
		err := unix.Unshare(unix.CLONE_NEWNET)
		defer func() { done <- err }() // also if f ends the goroutine
		if err == nil {
			f()
		}
	}()
	require.NoError(t, <-done)
}

func addresses(t *testing.T, name string) (string, []string) {
	t.Helper()
	link, err := net.InterfaceByName(name)
	if !assert.NoError(t, err) {
		return "", nil
	}
	addrs, err := link.Addrs()
	assert.NoError(t, err)
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return link.Flags.String(), all
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	isolated(t, func() {
		if !assert.NoError(t, Setup(nil)) {
			return
		}
		flags, addrs := addresses(t, "lo")
		assert.Contains(t, flags, "up")
		assert.Contains(t, addrs, "127.0.0.1/8")
		assert.NoError(t, Setup(nil), "twice is fine")
	})
}

func address(s, gateway string) *proto.Address {
	p := netip.MustParsePrefix(s)
	return &proto.Address{
		Address: proto.IP{Addr: p.Addr()}, PrefixLen: uint8(p.Bits()), Gateway: proto.IP{Addr: netip.MustParseAddr(gateway)},
	}
}

// The loopback takes everything but an IPv6 route through a gateway; what comes before
// that is done. hack/agent/boot.sh tries a real interface.
func TestInterface(t *testing.T) {
	t.Parallel()
	isolated(t, func() {
		err := Setup(&proto.Network{
			Interface: "lo", MAC: proto.MAC{2, 1, 2, 3, 4, 5}, MTU: 1234,
			IPv4: address("10.9.8.7/24", "10.9.8.1"), IPv6: address("fd00:1::7/64", "fd00:1::1"),
		})
		assert.ErrorContains(t, err, "lo: add the IPv6 default route: ")
		link, err := net.InterfaceByName("lo")
		if !assert.NoError(t, err) {
			return
		}
		assert.Equal(t, 1234, link.MTU)
		_, addrs := addresses(t, "lo")
		assert.Contains(t, addrs, "10.9.8.7/24")
		assert.Contains(t, addrs, "fd00:1::7/64")
	})
}

func TestNoInterface(t *testing.T) {
	t.Parallel()
	isolated(t, func() {
		assert.ErrorIs(t, Setup(&proto.Network{Interface: "eth9"}), ErrNoInterface)
		assert.ErrorContains(t, Setup(&proto.Network{Interface: "a-name-that-is-too-long"}), "find interface")
	})
}

// ack is the kernel's answer to a request.
func ack(seq uint32, errno unix.Errno) []byte {
	b := binary.NativeEndian.AppendUint32(nil, 36)
	b = binary.NativeEndian.AppendUint16(b, unix.NLMSG_ERROR)
	b = binary.NativeEndian.AppendUint16(b, 0)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = binary.NativeEndian.AppendUint32(b, uint32(-int32(errno)))
	return append(b, make([]byte, 16)...)
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	b := batch{what: []string{"one", "two", "three"}}
	results := make([]error, 3)
	other := append(binary.NativeEndian.AppendUint32(nil, 18), make([]byte, 16)...) // of another type, padded
	done, err := b.read(append(append(append([]byte(nil), ack(1, 0)...), other...), ack(3, unix.EEXIST)...), results)
	require.NoError(t, err)
	assert.Equal(t, 2, done)
	require.NoError(t, results[0])
	require.NoError(t, results[1])
	require.ErrorIs(t, results[2], unix.EEXIST)
	require.EqualError(t, results[2], "three: file exists")
	for name, p := range map[string][]byte{
		"cut":           ack(1, 0)[:20],
		"half a header": ack(1, 0)[:9],
		"short":         {15, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0},
		"sequence 0":    ack(0, 0),
		"sequence 4":    ack(4, 0),
	} {
		_, err := b.read(p, results)
		assert.ErrorIs(t, err, errAnswer, name)
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add(ack(1, unix.EPERM))
	f.Add(append(ack(1, 0), ack(2, 0)...))
	f.Fuzz(func(t *testing.T, p []byte) {
		b := batch{what: []string{"one", "two"}}
		done, err := b.read(p, make([]error, 2))
		if err == nil {
			assert.LessOrEqual(t, done, len(p)/20)
		}
	})
}
