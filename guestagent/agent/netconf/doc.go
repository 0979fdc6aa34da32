// Package netconf brings up the guest's network interfaces by rtnetlink: the loopback and
// the one that the host configures. It may import guestagent/proto, the standard library
// and x/sys; it must never write a file or look anything up on the network.
package netconf
