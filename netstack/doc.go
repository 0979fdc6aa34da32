// Package netstack holds the sandbox's network: a gateway for one guest on gVisor's
// TCP/IP stack, and what decides on and answers its traffic. It may import nothing of
// vmm: the guest's network card is a port that takes and gives Ethernet frames. It must
// never open a connection that the policy has not admitted, and never trust a byte that
// comes from the guest.
package netstack
