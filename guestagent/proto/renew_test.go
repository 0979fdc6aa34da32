package proto

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func renewal() Renew {
	ip := func(s string) IP { return IP{Addr: netip.MustParseAddr(s)} }
	return Renew{
		UnixTimeNanos: 1, Entropy: bytes.Repeat([]byte{7}, RenewEntropy), Hostname: "copy", HostAlias: "host.alias",
		Network: &Network{Interface: "eth0", MAC: MAC{2, 1, 2, 3, 4, 5}, MTU: 1500, IPv4: &Address{Address: ip("10.0.0.2"), PrefixLen: 30, Gateway: ip("10.0.0.1")}},
	}
}

func TestRenew(t *testing.T) {
	t.Parallel()
	want := renewal()
	b, err := AppendPayload(nil, want)
	require.NoError(t, err)
	var got Renew
	require.NoError(t, Unmarshal(b, &got))
	assert.Equal(t, want, got)
	require.NoError(t, got.Validate())

	short := Renew{UnixTimeNanos: 1, Entropy: want.Entropy}
	require.NoError(t, short.Validate())
	b, err = AppendPayload(nil, short)
	require.NoError(t, err)
	assert.NotContains(t, string(b), "host", "agents that boot after it need no more")

	for name, spoil := range map[string]func(*Renew){
		"time":        func(r *Renew) { r.UnixTimeNanos = 1 << 63 },
		"no entropy":  func(r *Renew) { r.Entropy = nil },
		"entropy":     func(r *Renew) { r.Entropy = append(r.Entropy, 0) },
		"hostname":    func(r *Renew) { r.Hostname = "a\x00" },
		"host_alias":  func(r *Renew) { r.HostAlias = "a\x00" },
		"interface":   func(r *Renew) { r.Network.Interface = "" },
		"family":      func(r *Renew) { r.Network.IPv6 = r.Network.IPv4 },
		"prefix":      func(r *Renew) { r.Network.IPv4.PrefixLen = 33 },
		"no address":  func(r *Renew) { r.Network.IPv4.Address = IP{} },
		"no gateway":  func(r *Renew) { r.Network.IPv4.Gateway = IP{} },
		"invalid DNS": func(r *Renew) { r.Network.IPv4.DNS = &IP{} },
	} {
		r := renewal()
		spoil(&r)
		assert.ErrorContains(t, r.Validate(), "invalid renewal: ", name)
	}
}

func TestTrimTypes(t *testing.T) {
	t.Parallel()
	for _, typ := range []Type{TypeRenew, TypeTrim, TypeTrimmed} {
		assert.True(t, typ.Known())
		assert.Zero(t, typ.Flags(), "%s ends nothing and asks for no shutdown", typ)
	}
}

// FuzzRenew: whatever the host sends, a renewal that is valid is one that encodes, and
// decodes to the same again.
func FuzzRenew(f *testing.F) {
	for _, r := range []Renew{renewal(), {Entropy: make([]byte, RenewEntropy)}, {}} {
		b, err := AppendPayload(nil, r)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Renew
		if err := Unmarshal(b, &r); err != nil {
			require.ErrorIs(t, err, ErrPayload)
			return
		}
		if r.Validate() != nil {
			return
		}
		require.Len(t, r.Entropy, RenewEntropy)
		again, err := AppendPayload(nil, r)
		require.NoError(t, err)
		var same Renew
		require.NoError(t, Unmarshal(again, &same))
		require.Equal(t, r, same)
	})
}
