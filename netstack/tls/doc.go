// Package tls holds what interception of the guest's TLS connections needs besides the
// connections themselves: the certificate authority that guests trust, certificates of it
// for the names that they ask for, and whom to trust upstream (RFC 5246, 5280, 6066,
// 8446). It may import internal/atomicfile, internal/filelock, netstack/policy and
// golang.org/x/sys; it opens no connection, and must never let the authority's key out of
// the host.
package tls
