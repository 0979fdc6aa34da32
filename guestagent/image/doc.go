// Package image holds the root file system of the guest agent: a small read-only EROFS
// image with the agent as /init, embedded compressed, which monitors attach as a disk. It
// may import internal/unpacked and a decompressor; it must never import the
// agent or the packages that build the image. `make agent` builds it anew.
package image
