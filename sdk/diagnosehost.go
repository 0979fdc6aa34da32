package microsandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"github.com/gomsb/gomsb/vmm/hv/kvm"
)

// host is where Diagnose looks; tests look elsewhere.
type host struct {
	device    string   // of KVM
	cpuinfo   string   // /proc/cpuinfo
	container []string // files that exist inside containers
	user      string   // name of this user
	// probe creates a virtual machine and tells whether the processor helps with it.
	probe func(device string) (hardware bool, err error)
}

func thisHost() *host {
	h := &host{device: "/dev/kvm", cpuinfo: "/proc/cpuinfo", container: []string{"/.dockerenv", "/run/.containerenv"}, user: "$USER", probe: probeKVM}
	if u, err := user.Current(); err == nil {
		h.user = u.Username
	}
	return h
}

func probeKVM(device string) (hardware bool, err error) {
	k, err := kvm.Open(device)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	vm, err := k.CreateVM()
	if err != nil {
		return false, err
	}
	return k.Hardware(), vm.Close()
}

func (h *host) checks() []DiagnosisCheck {
	hardware, err := h.probe(h.device)
	return []DiagnosisCheck{h.checkVirtualization(hardware, err), h.checkDevice(), h.checkAccess(err)}
}

// virtualization is vmx or svm if the processor shows it, else empty.
func (h *host) virtualization() string {
	f, err := os.Open(h.cpuinfo)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, flags, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(name) != "flags" {
			continue
		}
		for _, flag := range strings.Fields(flags) {
			if flag == "vmx" || flag == "svm" {
				return flag
			}
		}
		return ""
	}
	return ""
}

func (h *host) inContainer() bool {
	for _, f := range h.container {
		if _, err := os.Stat(f); err == nil {
			return true
		}
	}
	return false
}

const enableHardware = "use a machine with VT-x or AMD-V, enable it in the firmware, or, in a virtual machine, enable nested virtualisation on its host"

func (h *host) checkVirtualization(hardware bool, probeErr error) DiagnosisCheck {
	c := DiagnosisCheck{Name: "CPU virt"}
	switch flag := h.virtualization(); {
	case flag != "":
		c.OK, c.Detail = true, flag
	case probeErr == nil && hardware:
		c.OK, c.Detail = true, "yes"
	case probeErr == nil:
		c.Detail = "no vmx or svm: KVM emulates guest kernels here, and sandboxes start slowly"
		c.Remedies = []string{enableHardware}
	default:
		c.Detail = "no vmx or svm"
		c.Remedies = []string{enableHardware}
	}
	return c
}

func (h *host) checkDevice() DiagnosisCheck {
	c := DiagnosisCheck{Name: "KVM device", Required: true, Detail: h.device}
	st, err := os.Stat(h.device)
	if err == nil && st.Mode()&fs.ModeCharDevice == 0 {
		err = fmt.Errorf("%s is not a device", h.device)
	}
	if c.OK = err == nil; c.OK {
		return c
	}
	c.Detail = err.Error()
	if h.inContainer() {
		c.Remedies = append(c.Remedies, "this is a container: start it with --device "+h.device)
	}
	module, ok := map[string]string{"vmx": "kvm_intel", "svm": "kvm_amd"}[h.virtualization()]
	if !ok {
		c.Remedies = append(c.Remedies, enableHardware)
		return c
	}
	c.Remedies = append(c.Remedies, "sudo modprobe "+module)
	if !h.inContainer() {
		c.Fixes = [][]string{{"modprobe", module}}
	}
	return c
}

func (h *host) checkAccess(err error) DiagnosisCheck {
	c := DiagnosisCheck{Name: "KVM access", Required: true}
	switch {
	case err == nil:
		c.OK, c.Detail = true, "this user can create virtual machines"
		return c
	case errors.Is(err, kvm.ErrPermission):
		c.Remedies, c.Fixes = h.accessRemedies()
	case errors.Is(err, kvm.ErrNoDevice):
		c.Remedies = []string{"see KVM device"}
	case errors.Is(err, kvm.ErrBusy):
		c.Remedies = []string{"stop the other hypervisor (VirtualBox, VMware, ...) and try again"}
	}
	c.Detail = err.Error()
	return c
}

// accessRemedies says how this user gets at the device: by its group if that is meant for
// people, and until the next login, or without such a group, by an access control list.
func (h *host) accessRemedies() (remedies []string, fixes [][]string) {
	acl := []string{"setfacl", "-m", "u:" + h.user + ":rw", h.device}
	remedies, fixes = []string{"sudo " + strings.Join(acl, " ") + " (until the next restart)"}, [][]string{acl}
	st, err := os.Stat(h.device)
	if err != nil {
		return remedies, fixes
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || sys.Gid == 0 || st.Mode()&0o060 != 0o060 {
		return remedies, fixes
	}
	group := strconv.Itoa(int(sys.Gid))
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	join := []string{"usermod", "-aG", group, h.user}
	return append([]string{"sudo " + strings.Join(join, " ") + ", then log in again"}, remedies...), append([][]string{join}, fixes...)
}
