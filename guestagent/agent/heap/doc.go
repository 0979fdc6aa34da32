// Package heap keeps the agent's own memory small in copies of a guest: what a copy writes
// to it shares with nobody. It may import the standard library only.
package heap
