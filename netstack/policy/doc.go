// Package policy decides which connections and which names a sandbox may use: rules over
// directions, addresses, groups of addresses, domains, protocols and ports, of which the
// first one that matches wins. A domain stands for the addresses that this sandbox itself
// resolved it to, which an Index remembers. It is pure: it may import nothing of the
// project, opens no socket, and reads the clock only through the Index.
//
// Where it is stricter than microsandbox 0.6.18: 0.0.0.0/8, 240.0.0.0/4 with the broadcast
// address, and what an IPv6 address of the NAT64 prefix embeds are judged by what they
// reach; none of them counts as public by itself.
package policy
