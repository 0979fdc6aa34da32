//go:build linux

// Command serialagent is the guest agent with ports of a virtio console in the place of
// vsock, which QEMU offers only with help of the host's kernel. hack/agent/boot.sh boots
// it; no other program may use it.
package main
