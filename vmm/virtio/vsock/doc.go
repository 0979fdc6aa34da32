// Package vsock is the virtio socket device (virtio 1.2 §5.10): stream connections
// between programs in the guest and this process, both ways, as net.Conn. It may import
// vmm/virtio and what lies below it; it must never know who uses the streams or what
// they carry, and must never keep more than one bounded buffer per connection,
// whatever the guest sends.
//
// # Data paths
//
// From the guest: one goroutine serves the tx queue. It copies the header of a packet
// out of guest memory, checks it, and copies the payload straight into the ring buffer
// of its connection, where [Conn.Read] finds it. The guest cannot overfill the ring,
// because the ring's size is the credit that it was granted; a guest that sends beyond
// its credit loses the connection.
//
// To the guest: [Conn.Write] itself takes a buffer from the rx queue and copies the
// caller's bytes into it; there is no transmit buffer and no goroutine between. Without
// credit or without a buffer it waits. Header-only packets (responses, credit updates,
// shutdowns, resets) are bits in a connection, sent when there is a buffer, so that
// their number is bounded too. Resets for connections that do not exist go through a
// short queue; while that is full no packet is taken from the guest.
//
// # Locks
//
// Order: one of Device.mu, tx.mu and rx.mu, then Conn.mu, then one of the leaves table.mu,
// outbox.mu and pool.mu. Only Config.Listener is called with a lock (tx.mu) held.
package vsock
