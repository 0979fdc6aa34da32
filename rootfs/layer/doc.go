// Package layer reads the tar stream of one image layer into a rootfs/tree.Tree of
// changes, handing file content to a sink as it comes. It imports rootfs/tree and the standard
// library only. The stream is hostile: nothing in it may name, open or follow a path
// of the host, and every count, length and total is bounded by Limits. Decompression
// and digests are the caller's business (oci/blob).
package layer
