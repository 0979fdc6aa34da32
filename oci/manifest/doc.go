// Package manifest reads the documents of an image: index, manifest and configuration,
// OCI and Docker alike. It picks the image for a platform and checks that the documents
// are what they say they are, within limits; where they come from is its caller's
// business. It may import oci and the image-spec types. It must never touch the network
// or the file system.
package manifest
