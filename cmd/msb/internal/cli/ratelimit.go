package cli

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/gomsb/gomsb/cmd/msb/internal/flagtype"
	msb "github.com/gomsb/gomsb/sdk"
)

// directions are the names of networking.limits.
var directions = [2]string{"egress", "ingress"}

// limitFlags are the flags that bound one direction of the network.
type limitFlags struct{ bandwidth, bandwidthBurst, ops, opsBurst string }

func (l *limitFlags) flags(f *pflag.FlagSet, direction string) {
	what := map[string]string{"egress": "the guest sends", "ingress": "the guest receives"}[direction]
	f.StringVar(&l.bandwidth, "net-"+direction+"-bandwidth", "", "most bytes that "+what+", SIZE[/DURATION] such as 10M or 64K/100ms")
	f.StringVar(&l.bandwidthBurst, "net-"+direction+"-bandwidth-burst", "", "bytes that come before that, once")
	f.StringVar(&l.ops, "net-"+direction+"-ops", "", "most frames that "+what+", N[/DURATION]")
	f.StringVar(&l.opsBurst, "net-"+direction+"-ops-burst", "", "frames that come before that, once")
}

// rateLimiter is what the flags ask for, nil if that is nothing.
func (n *networking) rateLimiter() (*msb.NetworkRateLimiterConfig, error) {
	var limits [2]*msb.RateLimiterConfig
	for i := range n.limits {
		l := &n.limits[i]
		prefix := "net-" + directions[i]
		bandwidth, err := bucket(prefix+"-bandwidth", l.bandwidth, l.bandwidthBurst, flagtype.Bytes)
		if err != nil {
			return nil, err
		}
		ops, err := bucket(prefix+"-ops", l.ops, l.opsBurst, flagtype.Count)
		if err != nil {
			return nil, err
		}
		if bandwidth != nil || ops != nil {
			limits[i] = &msb.RateLimiterConfig{Bandwidth: bandwidth, Ops: ops}
		}
	}
	if limits == [2]*msb.RateLimiterConfig{} {
		return nil, nil
	}
	return &msb.NetworkRateLimiterConfig{Egress: limits[0], Ingress: limits[1]}, nil
}

// bucket is what two flags ask for, nil if that is nothing.
func bucket(flag, rate, burst string, size func(string) (uint64, error)) (*msb.TokenBucketConfig, error) {
	if rate == "" && burst == "" {
		return nil, nil
	}
	if rate == "" {
		return nil, lacking(withValue(flag))
	}
	n, refill, err := flagtype.Rate(rate, size)
	if err != nil {
		return nil, fmt.Errorf("invalid value '%s' for '--%s': %w", rate, flag, err)
	}
	b := &msb.TokenBucketConfig{Size: n, RefillTime: refill}
	if burst != "" {
		if b.OneTimeBurst, err = size(burst); err != nil {
			return nil, fmt.Errorf("invalid value '%s' for '--%s-burst': %w", burst, flag, err)
		}
	}
	return b, nil
}
