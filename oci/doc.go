// Package oci holds what the image packages below it share: the value that describes a
// stored image, progress events and error classes. It may import content digests and
// the standard library; the packages below may also import rootfs. None of them may
// import the VMM, a database, the SDK or the command line.
//
//   - oci/ref parses image references,
//   - oci/blob verifies and decompresses layer blobs,
//   - oci/archive reads docker-save and OCI-layout archives,
//   - oci/cache turns images into bootable files and keeps them.
package oci
