// Package archive reads and writes image archives: tar files as docker save writes them and tar
// files of an OCI image layout, plain or compressed, from a file or a stream. It finds
// the images inside, with manifest, configuration and layers, and checks the digests
// of all metadata; layers are left for the caller to verify while reading. It may
// import oci, oci/blob and the image-spec types. It must never extract anything:
// member names and links are looked up in an index, never on the host.
package archive
