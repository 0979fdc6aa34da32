package netstack

import (
	"log/slog"
	"sync/atomic"
)

// account counts what a gateway has carried and what it has not, for a log at its end.
// Bytes are counted by the guest's card.
type account struct {
	connections, flows, pings, inbound atomic.Int64 // begun
	denied, deniedInbound              atomic.Int64 // by the policy
	tooMany                            atomic.Int64 // connections beyond the limit
}

// Account is what a gateway has done so far.
type Account struct {
	Connections int64 // of TCP that the guest has opened, admitted or not
	Flows       int64 // of datagrams that were let out
	Pings       int64 // that were let out
	Inbound     int64 // connections through published ports that were let in
	// Denied are the guest's connections, flows of datagrams and pings that the policy did
	// not let out, DeniedInbound what it did not let in. Questions about names are not
	// among them.
	Denied, DeniedInbound int64
	TooMany               int64 // connections beyond the limit, either way
}

// Account tells what the gateway has done so far.
func (g *Gateway) Account() Account {
	a := &g.account
	return Account{
		Connections: a.connections.Load(), Flows: a.flows.Load(), Pings: a.pings.Load(), Inbound: a.inbound.Load(),
		Denied: a.denied.Load(), DeniedInbound: a.deniedInbound.Load(), TooMany: a.tooMany.Load(),
	}
}

// LogValue implements slog.LogValuer.
func (a Account) LogValue() slog.Value {
	return slog.GroupValue(
		slog.Int64("connections", a.Connections), slog.Int64("flows", a.Flows), slog.Int64("pings", a.Pings), slog.Int64("inbound", a.Inbound),
		slog.Int64("denied", a.Denied), slog.Int64("denied_inbound", a.DeniedInbound), slog.Int64("too_many", a.TooMany),
	)
}
