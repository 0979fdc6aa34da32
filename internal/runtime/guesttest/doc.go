// Package guesttest is a guest agent for tests of the host's half: it speaks the protocol
// over any connection and runs a few built-in commands. It may import guestagent/proto
// and the standard library; no program may import it.
package guesttest
