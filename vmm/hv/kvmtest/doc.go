// Package kvmtest tells tests that need KVM whether there is one.
package kvmtest
