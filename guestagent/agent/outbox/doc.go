// Package outbox writes the agent's frames to the host: whole, in order for each writer,
// and fairly when many write at once. It may import guestagent/proto and the standard
// library; it must never queue more than one message of each writer, so that whoever
// produces output waits for the host to take it and memory stays bounded.
package outbox
