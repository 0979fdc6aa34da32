// Package blob reads layer blobs: it checks sizes and digests and decompresses gzip
// and zstd within limits on output, ratio and memory. It may import compression and
// digest libraries and oci only; it must never open files.
package blob
