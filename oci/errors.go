package oci

import "errors"

// Error classes of the image packages, for errors.Is.
var (
	// ErrReference reports text that is no image reference.
	ErrReference = errors.New("invalid image reference")
	// ErrNotFound reports an image that the cache does not hold.
	ErrNotFound = errors.New("image not found")
	// ErrNotCached reports an image that is to be had from a registry only.
	ErrNotCached = errors.New("image not cached")
	// ErrRegistry reports a registry that cannot be reached, or not be understood.
	ErrRegistry = errors.New("registry not usable")
	// ErrUnauthorized reports that a registry wants other credentials.
	ErrUnauthorized = errors.New("access denied by the registry")
	// ErrUntagged reports a loaded image without a name; pass a tag.
	ErrUntagged = errors.New("image has no name")
	// ErrPlatform reports that no image for the wanted platform exists.
	ErrPlatform = errors.New("no image for this platform")

	// ErrArchive reports an archive that is neither a docker-save nor an OCI-layout
	// archive, is truncated, or contradicts itself.
	ErrArchive = errors.New("invalid image archive")
	// ErrManifest reports a manifest, index or image configuration that is malformed
	// or not the kind its media type says.
	ErrManifest = errors.New("invalid image manifest")
	// ErrMediaType reports a media type that is not supported where it stands.
	ErrMediaType = errors.New("unsupported media type")
	// ErrDigestMismatch reports content that does not hash to its digest.
	ErrDigestMismatch = errors.New("digest mismatch")
	// ErrSizeMismatch reports content whose length is not the stated one.
	ErrSizeMismatch = errors.New("size mismatch")
	// ErrCompression reports a broken or unsupported compressed stream.
	ErrCompression = errors.New("invalid compressed data")
	// ErrLimit reports an image beyond one of the limits that keep hostile input from
	// filling memory or disk; the text names the limit.
	ErrLimit = errors.New("image exceeds a limit")
	// ErrLayer reports a layer whose tar stream cannot be made a root file system.
	ErrLayer = errors.New("invalid layer")
)
