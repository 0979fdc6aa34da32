package proto

import "fmt"

// TypeRenew is an addition to the protocol: what a guest must hear first that is a copy of
// a saved one. It goes to our own agent only. A guest that was saved before it booted gets
// it before [TypeBootstrap]; one that was saved while it served has lost its stream to the
// host, connects anew, gets it as the first message and answers [TypeReady].
const TypeRenew Type = "gomsb.renew"

// RenewEntropy is how many random bytes [Renew] brings.
const RenewEntropy = 64

// Renew is the payload of gomsb.renew: what the copy must not have in common with others.
// What follows Entropy is for guests that had booted; the zero values change nothing.
type Renew struct {
	UnixTimeNanos uint64   `cbor:"unix_time_nanos"` // the host's wall clock
	Entropy       []byte   `cbor:"entropy"`         // RenewEntropy random bytes
	Hostname      string   `cbor:"hostname,omitempty"`
	Network       *Network `cbor:"network,omitempty"`
	HostAlias     string   `cbor:"host_alias,omitempty"` // the name of the gateway
}

// Validate reports the first value out of range.
func (r *Renew) Validate() error {
	if r.UnixTimeNanos > 1<<63-1 || len(r.Entropy) != RenewEntropy {
		return fmt.Errorf("invalid renewal: time %d, %d bytes of entropy", r.UnixTimeNanos, len(r.Entropy))
	}
	err := first(optionalText("hostname", r.Hostname), optionalText("host_alias", r.HostAlias), r.Network.check())
	if err != nil {
		return fmt.Errorf("invalid renewal: %w", err)
	}
	return nil
}
