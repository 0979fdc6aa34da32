// Package flow keeps windows for each session of a guest: no more of its output, or of its
// input, is under way than whoever takes it has room for, so that a session that nobody
// reads, or that takes no input, does not stand in the way of those beside it. The protocol of microsandbox has no such thing; a
// guest agent that knows it says so in core.ready (proto.TypeFlow). Package flow may import
// guestagent/proto only, and must never wait for the guest.
package flow
