// Package registry fetches images from registries that speak the OCI distribution
// protocol: documents in memory, verified and bounded; layer blobs as streams that
// survive broken connections. It chooses credentials and transports. It may import
// go-containerregistry's authentication, the keyring, and oci packages but oci/cache. It
// must never write files, and never send credentials to any host but the one that they
// are for.
package registry
