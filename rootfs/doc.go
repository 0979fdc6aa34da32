// Package rootfs is the folder of everything that turns image layers into block
// devices a microVM can boot from; it holds no code itself. The packages below it
// import only each other and the standard library, and must never import the VMM,
// the network stack, the SDK, or anything that talks to a registry.
package rootfs
