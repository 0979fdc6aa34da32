// Package renew makes a guest that is a copy of a saved one a guest of its own: it sets the
// clock, which stood still meanwhile, and gives the kernel's random number generator
// something that no other copy has. It may import guestagent/proto, the standard library
// and x/sys; it must never keep what it was given.
package renew
