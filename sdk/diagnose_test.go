package microsandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/hv/kvm"
)

func TestDiagnoseHost(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, []byte(content), 0o600))
		return p
	}
	intel, amd := file("intel", "processor : 0\nflags\t\t: fpu vmx sse\n"), file("amd", "flags : svm\n")
	plain := file("plain", "flags : fpu vmxnot\nflags : vmx\n")
	docker := file("dockerenv", "")
	missing := filepath.Join(dir, "kvm")
	working := func(hardware bool) func(string) (bool, error) {
		return func(string) (bool, error) { return hardware, nil }
	}
	failing := func(err error) func(string) (bool, error) {
		return func(string) (bool, error) { return false, fmt.Errorf("%w (details)", err) }
	}
	for name, c := range map[string]struct {
		host host
		want map[string]string // check to what its remedies contain; OK if it is empty
	}{
		"works": {host{device: os.DevNull, cpuinfo: intel, probe: working(true)}, map[string]string{"CPU virt": "", "KVM device": "", "KVM access": ""}},
		"soft":  {host{device: os.DevNull, cpuinfo: plain, probe: working(false)}, map[string]string{"CPU virt": "enable nested virtualisation", "KVM device": "", "KVM access": ""}},
		"intel module": {host{device: missing, cpuinfo: intel, probe: failing(kvm.ErrNoDevice)},
			map[string]string{"CPU virt": "", "KVM device": "sudo modprobe kvm_intel", "KVM access": "see KVM device"}},
		"amd module": {host{device: missing, cpuinfo: amd, probe: failing(kvm.ErrNoDevice)},
			map[string]string{"CPU virt": "", "KVM device": "sudo modprobe kvm_amd", "KVM access": "see KVM device"}},
		"no hardware": {host{device: missing, cpuinfo: plain, probe: failing(kvm.ErrNoDevice)},
			map[string]string{"CPU virt": "firmware", "KVM device": "firmware", "KVM access": "see KVM device"}},
		"container": {host{device: missing, cpuinfo: intel, container: []string{filepath.Join(dir, "no"), docker}, probe: failing(kvm.ErrNoDevice)},
			map[string]string{"CPU virt": "", "KVM device": "start it with --device", "KVM access": "see KVM device"}},
		"not a device": {host{device: docker, cpuinfo: filepath.Join(dir, "none"), probe: failing(kvm.ErrNotKVM)},
			map[string]string{"CPU virt": "firmware", "KVM device": "firmware", "KVM access": ""}},
		"permission": {host{device: os.DevNull, cpuinfo: intel, user: "me", probe: failing(kvm.ErrPermission)},
			map[string]string{"CPU virt": "", "KVM device": "", "KVM access": "sudo setfacl -m u:me:rw"}},
		"busy": {host{device: os.DevNull, cpuinfo: intel, probe: failing(kvm.ErrBusy)},
			map[string]string{"CPU virt": "", "KVM device": "", "KVM access": "stop the other hypervisor"}},
	} {
		t.Run(name, func(t *testing.T) {
			broken := false
			for _, check := range c.host.checks() {
				want, ok := c.want[check.Name]
				require.True(t, ok, check.Name)
				assert.NotEmpty(t, check.Detail, check.Name)
				remedies := strings.Join(check.Remedies, "\n")
				assert.Contains(t, remedies, want, check.Name)
				if check.OK {
					assert.Empty(t, remedies, check.Name)
				}
				for _, fix := range check.Fixes {
					assert.Contains(t, remedies, "sudo "+strings.Join(fix, " "), "nothing is done that is not said")
				}
				broken = broken || check.Required && !check.OK
			}
			assert.Equal(t, name != "works" && name != "soft", broken)
		})
	}
}

func TestGroupOfDevice(t *testing.T) {
	device := filepath.Join(t.TempDir(), "kvm")
	require.NoError(t, os.WriteFile(device, nil, 0o660))
	require.NoError(t, os.Chmod(device, 0o660))
	h := host{device: device, user: "me"}
	remedies, fixes := h.accessRemedies()
	first := remedies[0]
	assert.Len(t, fixes, len(remedies))
	if os.Getgid() == 0 {
		assert.Contains(t, first, "setfacl", "nobody should join root's group")
		return
	}
	assert.Regexp(t, `^sudo usermod -aG \S+ me, then log in again$`, first)
}

func TestDiagnose(t *testing.T) {
	h := newHome(t)
	d := Diagnose(testContext(t))
	checks := map[string]DiagnosisCheck{}
	for _, c := range d.Checks {
		checks[c.Name] = c
	}
	assert.True(t, checks["msb"].OK)
	assert.True(t, checks["Data root"].OK)
	assert.Equal(t, h.root, checks["Data root"].Detail)
	assert.True(t, checks["Guest kernel"].OK, checks["Guest kernel"].Detail)
	assert.Contains(t, d.Info, DiagnosisInfo{"MSB_HOME", h.root})

	t.Setenv("MSB_PATH", os.DevNull)
	t.Setenv("MSB_KERNEL", os.DevNull)
	t.Setenv("MSB_HOME", filepath.Join(os.DevNull, "x"))
	d = Diagnose(testContext(t))
	assert.False(t, d.OK())
	for _, c := range d.Checks[:5] {
		assert.Equal(t, c.Name == "Disk space", c.OK, c.Name)
		if !c.OK {
			assert.NotEmpty(t, c.Remedies, c.Name)
		}
	}
	t.Setenv("MSB_HOME", filepath.Join(h.root, strings.Repeat("long", 30)))
	d = Diagnose(testContext(t))
	assert.Contains(t, d.Checks[2].Remedies, "set MSB_HOME to a directory with a shorter path")
}

func TestDiagnosisOK(t *testing.T) {
	assert.True(t, (&Diagnosis{Checks: []DiagnosisCheck{{OK: true, Required: true}, {}}}).OK())
	assert.False(t, (&Diagnosis{Checks: []DiagnosisCheck{{Required: true}}}).OK())
}

func TestErrors(t *testing.T) {
	cause := errors.New("why")
	assert.EqualError(t, &Error{Kind: ErrIO}, "IO")
	assert.EqualError(t, &Error{Kind: ErrIO, Cause: cause}, "why")
	assert.EqualError(t, &Error{Kind: ErrIO, Message: "what"}, "what")
	assert.EqualError(t, &Error{Kind: ErrIO, Message: "what", Cause: cause}, "what: why")
	assert.Equal(t, "Unknown", ErrorKind(-1).String())
	assert.Equal(t, "Unknown", ErrorKind(1000).String())
	for k := ErrUnknown; k <= ErrNoDefaultCommand; k++ {
		assert.NotEmpty(t, k.String(), int(k))
	}
	assert.NoError(t, wrap(ErrIO, nil))
	kept := fail(ErrTLS, "x")
	assert.Equal(t, error(kept), wrap(ErrIO, kept), "the first kind counts")
	assert.ErrorIs(t, wrap(ErrIO, cause), cause)
	assert.False(t, IsKind(nil, ErrUnknown))
}
