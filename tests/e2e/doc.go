// Package e2e tests the product as its users meet it: real kernels, the real agent and
// real images in microVMs, driven through the sdk and through the msb command. It is
// built with the tag e2e and run by hack/e2e, which prepares what it needs and chooses
// where: on hardware virtualisation, or inside the emulated testbed. Tests whose names
// begin with TestSoft are for hosts whose KVM has no hardware behind it. It may import
// anything; nothing may import it.
package e2e
