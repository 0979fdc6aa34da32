package proto

// TypeFlow is an addition to the protocol: windows for the output and the input of one
// session, so that a session whose output or input nobody takes does not stand in the way
// of others. It goes to agents only that announce it by [Ready.Flow], since others may end
// over a type that they do not know, and to hosts only that ask for it by [Flow.Input].
const TypeFlow Type = "gomsb.flow"

// Flow is the payload of gomsb.flow. With Open it precedes the request that opens the
// session; without, it raises the limit of a session that began so. Output of a hop that
// does not take part is not limited by it.
//
// From a guest it raises the limit of a session's input, which begins with [Ready.Input]:
// how many bytes of data the host may have sent since the session's beginning. The host
// may exceed it by the last message. For the windows of output such a message counts as
// output.
type Flow struct {
	Hop Hop `cbor:"hop"` // of a host
	// Limit is how many bytes of data messages the guest may send in the session since its
	// beginning, as [DataMessageSize] counts them. It may exceed the limit by the last one.
	Limit uint64 `cbor:"limit"`
	Open  bool   `cbor:"open"`
	Input bool   `cbor:"input,omitempty"` // with Open: the host keeps to limits of the input
}

// Hop says who takes a session's output.
type Hop uint8

// The hops between the guest and whoever reads a session.
const (
	HopRelay Hop = iota
	HopClient
	Hops // how many there are
)

// DataMessageSize is the length of the frame that [AppendDataMessage] writes for n bytes,
// its length prefix included.
func DataMessageSize(t Type, n int) int {
	payload := dataSize(n)
	envelope := len("\xa3\x61v\x07\x61t") + headSize(len(t)) + len(t) + len("\x61p") + headSize(payload) + payload
	return LengthSize + MinFrame + envelope
}
