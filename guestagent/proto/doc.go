// Package proto is the agent wire protocol, generation 7: the frames, message types and
// CBOR payloads that the guest agent, the host's relay and its clients exchange. It
// imports only a CBOR library besides the standard library, does no work at init time
// (PID 1 of every guest links it) and must never open a file, a socket or a goroutine:
// its Reader and Writer only wrap streams that the caller owns.
//
// # Layers
//
// A [Frame] is a length-prefixed, correlated byte body. A [Message] is a frame whose body
// is the envelope {v, t, p}: generation, type and payload, the payload being itself a CBOR
// document inside a byte string. The payload structs (ExecRequest, FSRequest, Bootstrap
// and so on) are the third layer; [Unmarshal] and [AppendPayload] convert them.
//
// # Hostile peers
//
// Either end may be hostile. Lengths are checked before memory is taken, nesting is cut at
// [MaxDepth] levels, element counts are bounded, and every error is returned as a value
// that wraps [ErrFrame], [ErrEnvelope] or [ErrPayload]. Decoding is lenient where the
// protocol says so (key order, unknown keys, tags, undefined, indefinite lengths, long
// forms, byte strings written as arrays) and strict elsewhere (missing fields, null where
// a value is needed, floats, duplicate keys, invalid UTF-8).
package proto
