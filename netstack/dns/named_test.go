package dns

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	fixedServer = netip.MustParseAddrPort("1.1.1.1:53")
	namedServer = netip.MustParseAddrPort("10.0.0.53:53")
)

// named are servers whose names f looks up.
func named(t *testing.T, f func(ctx context.Context, server string) (netip.AddrPort, error), names ...string) *Named {
	t.Helper()
	n, err := NewNamed(names)
	require.NoError(t, err)
	n.lookUp = f
	return n
}

// A name server that cannot be looked up costs nobody's question anything while there is
// another.
func TestHungNameServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		n := named(t, func(ctx context.Context, _ string) (netip.AddrPort, error) {
			asked.Add(1)
			<-ctx.Done()
			return netip.AddrPort{}, ctx.Err()
		}, "hung.example", "1.1.1.1")
		begin := time.Now()
		for range 100 {
			assert.Equal(t, []netip.AddrPort{fixedServer}, n.List(t.Context()))
		}
		assert.Zero(t, time.Since(begin), "no question has waited")
		synctest.Wait()
		assert.EqualValues(t, 1, asked.Load())
		time.Sleep(DefaultTimeout + time.Millisecond)
		n.List(t.Context())
		synctest.Wait()
		assert.EqualValues(t, 1, asked.Load(), "it failed a moment ago")
		time.Sleep(retryNames)
		n.List(t.Context())
		synctest.Wait()
		assert.EqualValues(t, 2, asked.Load())
		time.Sleep(DefaultTimeout + time.Millisecond) // the lookup ends
	})
}

// Questions wait for the first server that becomes known, all for the same lookup.
func TestQuestionsWaitForTheFirstServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		n := named(t, func(ctx context.Context, server string) (netip.AddrPort, error) {
			asked.Add(1)
			if server == "slow.example:53" {
				<-ctx.Done()
				return netip.AddrPort{}, ctx.Err()
			}
			time.Sleep(time.Second)
			return namedServer, nil
		}, "slow.example", "good.example")
		begin := time.Now()
		for range 5 {
			go func() {
				assert.Equal(t, []netip.AddrPort{namedServer}, n.List(t.Context()))
				assert.Equal(t, time.Second, time.Since(begin))
			}()
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		assert.Empty(t, n.List(impatient), "who gives up ends nobody else's lookup")
		time.Sleep(time.Second)
		synctest.Wait()
		assert.EqualValues(t, 2, asked.Load())
		time.Sleep(DefaultTimeout)
	})
}

// As long as no server is known, each question tries again.
func TestNameServersBecomeKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := true
		n := named(t, func(context.Context, string) (netip.AddrPort, error) {
			if fails {
				return netip.AddrPort{}, errors.New("no network yet")
			}
			return namedServer, nil
		}, "good.example")
		assert.Empty(t, n.List(t.Context()))
		fails = false
		assert.Equal(t, []netip.AddrPort{namedServer}, n.List(t.Context()))
	})
}
