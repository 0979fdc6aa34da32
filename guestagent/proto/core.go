package proto

// Ready is the payload of core.ready, sent once by the guest when it can serve. All times
// are nanoseconds; the two instants are on the guest's boot clock.
type Ready struct {
	BootTimeNs   uint64 `cbor:"boot_time_ns"`  // start of the agent
	InitTimeNs   uint64 `cbor:"init_time_ns"`  // duration of synchronous init
	ReadyTimeNs  uint64 `cbor:"ready_time_ns"` // just before sending
	AgentVersion string `cbor:"agent_version,omitempty"`
	Flow         bool   `cbor:"gomsb_flow,omitempty"` // the guest takes [TypeFlow]
	// Input is how many bytes of data a host that asks for it ([Flow.Input]) may send in a
	// session before the guest has raised the limit; 0 is a guest that never does.
	Input uint64 `cbor:"gomsb_input,omitempty"`
}

// InitResolved is the payload of core.init.resolved.
type InitResolved struct {
	DefaultUser DefaultUser `cbor:"default_user"`
}

// DefaultUser is the guest identity that commands run under when they name none.
type DefaultUser struct {
	UID uint32 `cbor:"uid"`
	GID uint32 `cbor:"gid"`
}

// ClientDisconnected is the payload of core.relay.client.disconnected: the id range of
// the client that went away.
type ClientDisconnected struct {
	IDStart        uint32 `cbor:"id_start"`
	IDEndExclusive uint32 `cbor:"id_end_exclusive"`
}

// ClockSync is the payload of core.clock.sync: the host's wall clock.
type ClockSync struct {
	UnixTimeNanos uint64 `cbor:"unix_time_nanos"`
}

// Touched is the payload of core.touched: the activity counter after the touch.
type Touched struct {
	ActivitySeq uint64 `cbor:"activity_seq"`
}

// ErrorKind classifies a core.error.
type ErrorKind string

// The kinds of core.error. Peers may send others.
const (
	KindMalformedMessage      ErrorKind = "malformed_message"
	KindUnsupportedType       ErrorKind = "unsupported_message_type"
	KindUnsupportedGeneration ErrorKind = "unsupported_protocol_generation"
	KindInvalidFlags          ErrorKind = "invalid_flags"
	KindInvalidPayload        ErrorKind = "invalid_payload"
	KindInvalidSession        ErrorKind = "invalid_session"
)

// CoreError is the payload of core.error, the terminal answer to a message the guest
// could not process.
type CoreError struct {
	Kind          ErrorKind `cbor:"kind"`
	Message       string    `cbor:"message"`
	OffendingType *Type     `cbor:"offending_type,omitempty"`
}
