// Package serve is the agent's main loop: it reads the host's frames and carries out what
// they ask for, commands, file operations, TCP streams, until the host wants the guest to
// go. It may import guestagent/proto, guestagent/flow and the other packages of the agent except boot; it
// must never mount anything, end the machine, or keep more of a session's data in memory
// than the limits of its queues.
//
// # Who waits for whom
//
// Output waits for the host: every session has at most one frame under way, and sessions
// take turns (package outbox). A host that takes part in it gives each session a window
// (proto.TypeFlow); one that has used it up waits, and the others go on.
//
// Input waits for the guest: each session queues a few mebibytes, all together no more than
// [Config].QueueTotal. A host that asks for it is told how much of a session's input is
// taken, and sends no more than fits; then nobody else notices. Of other hosts the loop
// stops reading when a queue is full, because the official protocol has no flow control. A
// session that takes nothing at all for half a minute while the loop waits for it loses its
// input, so that no command can hold up the sandbox for ever.
package serve
