// Package dns answers a sandbox's questions about names: it forwards them to the host's
// resolvers or those that were configured, as far as the policy allows, refuses answers
// that would lead a public name into a private network, and tells the policy which
// addresses a name stands for (RFC 1035, 6891, 7766). It may import netstack/policy; it
// must never invent an answer but for the name of the host itself, and never trust a
// message from either side.
//
// Nothing is cached: each question goes out, so that the policy's view of a name is as
// fresh as the guest's.
package dns
