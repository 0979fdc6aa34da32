package runtime

import (
	"time"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/netstack"
	"github.com/gomsb/gomsb/vmm/virtio/net"
)

// cable is the gateway as the guest's card sees it.
type cable struct{ *netstack.Gateway }

// The device lets no other kinds pass.
var toGateway = [...]netstack.GSO{net.GSOTCPv4: netstack.GSOTCPv4, net.GSOTCPv6: netstack.GSOTCPv6, net.GSOUDP: netstack.GSOUDP}

// Transmit implements net.Backend.
func (c cable) Transmit(o net.Offload, frame [][]byte) {
	c.Gateway.Transmit(netstack.Offload{
		NeedsChecksum: o.NeedsChecksum, ChecksumStart: o.ChecksumStart, ChecksumOffset: o.ChecksumOffset,
		GSO: toGateway[o.GSO], HeaderLen: o.HeaderLen, SegmentSize: o.SegmentSize,
	}, frame)
}

// card is the guest's card as the gateway sees it.
type card struct{ *net.Device }

var toGuest = [...]net.GSO{netstack.GSOTCPv4: net.GSOTCPv4, netstack.GSOTCPv6: net.GSOTCPv6}

// Deliver implements netstack.Port.
func (c card) Deliver(o netstack.Offload, frame [][]byte) bool {
	return c.Device.Deliver(net.Offload{
		NeedsChecksum: o.NeedsChecksum, ChecksumStart: o.ChecksumStart, ChecksumOffset: o.ChecksumOffset,
		GSO: toGuest[o.GSO], HeaderLen: o.HeaderLen, SegmentSize: o.SegmentSize,
	}, frame)
}

// limitOf is the card's form of a limit.
func limitOf(l *launch.Limiter) *net.Limit {
	if l == nil {
		return nil
	}
	bucket := func(b *launch.TokenBucket) *net.Bucket {
		if b == nil {
			return nil
		}
		return &net.Bucket{Size: b.Size, Refill: time.Duration(b.RefillTimeMS) * time.Millisecond, Burst: b.OneTimeBurst}
	}
	return &net.Limit{Bandwidth: bucket(l.Bandwidth), Ops: bucket(l.Ops)}
}
