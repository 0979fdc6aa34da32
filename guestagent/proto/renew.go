package proto

import "fmt"

// TypeRenew is an addition to the protocol: what a guest must hear first that is a copy of
// a saved one. It precedes [TypeBootstrap], and goes to our own agent only.
const TypeRenew Type = "gomsb.renew"

// RenewEntropy is how many random bytes [Renew] brings.
const RenewEntropy = 64

// Renew is the payload of gomsb.renew: what the copy must not have in common with others.
type Renew struct {
	UnixTimeNanos uint64 `cbor:"unix_time_nanos"` // the host's wall clock
	Entropy       []byte `cbor:"entropy"`         // RenewEntropy random bytes
}

// Validate reports the first value out of range.
func (r *Renew) Validate() error {
	if r.UnixTimeNanos > 1<<63-1 || len(r.Entropy) != RenewEntropy {
		return fmt.Errorf("invalid renewal: time %d, %d bytes of entropy", r.UnixTimeNanos, len(r.Entropy))
	}
	return nil
}
