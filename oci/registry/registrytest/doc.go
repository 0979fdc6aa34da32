// Package registrytest serves a registry on this machine for tests: a real one
// (go-containerregistry's pkg/registry) behind a handler that can break what it answers.
// It may import testing, testify and oci's media types; only tests may import it.
package registrytest
