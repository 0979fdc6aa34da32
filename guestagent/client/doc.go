// Package client is the host's side of agent.sock: it multiplexes commands, file
// operations and TCP streams into a guest over one connection. It imports guestagent/proto,
// guestagent/flow and the standard library only, never the machine monitor, and must never trust the
// guest: whatever arrives is bounded in time and memory and ends, at worst, this
// connection.
//
// # Flow control
//
// Each session queues [Options.SessionBuffer] bytes and all together [Options.TotalBuffer].
// Commands and TCP streams have a window of that size (guestagent/flow): what is beyond it
// waits in the guest, and the other sessions go on.
//
// Input has a window too, of the guest's choice: a command that takes none has whoever
// writes to it wait, and nobody else.
//
// Official guests know no windows, so there one connection is one pipe for all its
// sessions. When a queue is full the client stops reading, the relay's queue fills and the
// guest's writer blocks: memory stays flat however much a command prints. A session that
// nobody reads therefore holds up the others; after
// [Options.StallLimit] during which another session was waiting it is ended with
// [ErrStalled], its unread output dropped and its command killed, so that no session
// stalls the others for ever. A session that is alone on its connection is never ended
// for slowness: give long-lived streams a connection of their own. File reads do not take
// part in this: they are asked for in pieces that fit the buffer.
//
// # Contexts
//
// A context ends the call it is given to, not the session, unless the method says
// otherwise. A write that a context interrupts in mid-frame is completed by the next one,
// so a cancelled call never corrupts the stream.
package client
