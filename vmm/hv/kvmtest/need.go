package kvmtest

import (
	"os"
	"testing"
)

// mustEnv is the variable that makes a test fail where it would be skipped. hack/kvm-tests
// sets it in the emulated testbed, where it runs what the rest of the machine cannot.
const mustEnv = "KVM_TESTS"

// Need skips a test where /dev/kvm cannot be opened.
func Need(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	switch {
	case err == nil:
		_ = f.Close()
	case os.Getenv(mustEnv) != "":
		t.Fatal(err)
	default:
		t.Skipf("%v: hack/kvm-tests runs it in the testbed", err)
	}
}
