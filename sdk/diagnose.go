package microsandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"syscall"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/kernel"
)

// Diagnosis is what Diagnose found.
type Diagnosis struct {
	Info   []DiagnosisInfo
	Checks []DiagnosisCheck
}

// DiagnosisInfo is a fact about the host.
type DiagnosisInfo struct{ Name, Value string }

// DiagnosisCheck is one condition for running sandboxes.
type DiagnosisCheck struct {
	Name     string
	OK       bool
	Required bool
	Detail   string
	Remedies []string   // what to do if it is not OK, best first
	Fixes    [][]string // commands that root runs to mend it, in order; none if that takes more
}

// OK reports that every required check passed.
func (d *Diagnosis) OK() bool {
	for _, c := range d.Checks {
		if c.Required && !c.OK {
			return false
		}
	}
	return true
}

// Diagnose checks whether this host can run sandboxes and says how to mend what is
// missing. It changes nothing but that the data root may be created, and the guest
// kernel unpacked there.
func Diagnose(context.Context) *Diagnosis {
	h, err := openHome()
	return &Diagnosis{
		Info: []DiagnosisInfo{
			{"Platform", goruntime.GOOS + "/" + goruntime.GOARCH},
			{"Version", "v" + SDKVersion()},
			{"MSB_HOME", h.root},
		},
		Checks: append([]DiagnosisCheck{checkBinary(h), checkSettings(h, err), checkHome(h), checkSpace(h), checkKernel(h)}, thisHost().checks()...),
	}
}

func checkBinary(h home) DiagnosisCheck {
	c := DiagnosisCheck{Name: "msb", Required: true}
	bin, err := h.binary()
	if err == nil {
		c.Detail = bin.Path
		if bin.Self {
			c.Detail = "this program"
		}
		var st os.FileInfo
		if st, err = os.Stat(bin.Path); err == nil && (st.IsDir() || st.Mode()&0o111 == 0) {
			err = fmt.Errorf("%s is not an executable file", bin.Path)
		}
	}
	if c.OK = err == nil; !c.OK {
		c.Detail = err.Error()
		c.Remedies = []string{"let MSB_PATH name the msb command, or unset it"}
	}
	return c
}

func checkSettings(h home, err error) DiagnosisCheck {
	c := DiagnosisCheck{Name: "Settings", Required: true, OK: err == nil, Detail: h.configFile}
	if err != nil {
		c.Detail = err.Error()
		c.Remedies = []string{"mend " + h.configFile + ", or move it away"}
	}
	return c
}

func checkHome(h home) DiagnosisCheck {
	c := DiagnosisCheck{Name: "Data root", Required: true, Detail: h.root}
	err := os.MkdirAll(h.root, 0o755)
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(h.root, ".doctor-"); err == nil {
			err = errors.Join(f.Close(), os.Remove(f.Name()))
		}
	}
	if err == nil {
		_, err = launch.AgentSocket(h.run(), "x")
	}
	switch c.OK = err == nil; {
	case c.OK:
	case errors.Is(err, launch.ErrPathTooLong):
		c.Detail = err.Error()
		c.Remedies = []string{"set MSB_HOME to a directory with a shorter path"}
	default:
		c.Detail = err.Error()
		c.Remedies = []string{"make it writable, or set MSB_HOME to a directory that is"}
	}
	return c
}

// leastSpace is what a small image and its sandbox need, bytes.
const leastSpace = 1 << 30

func checkSpace(h home) DiagnosisCheck {
	c := DiagnosisCheck{Name: "Disk space"}
	var st syscall.Statfs_t
	dir := h.root
	for syscall.Statfs(dir, &st) != nil && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
	}
	free := st.Bavail * uint64(st.Bsize)
	c.OK = free >= leastSpace
	c.Detail = fmt.Sprintf("%d MiB free", free>>20)
	if !c.OK {
		c.Remedies = []string{"images need room: free some, or set MSB_HOME to another file system"}
	}
	return c
}

func checkKernel(h home) DiagnosisCheck {
	c := DiagnosisCheck{Name: "Guest kernel", Required: true}
	if path := os.Getenv("MSB_KERNEL"); path != "" {
		img, err := kernel.Open(path)
		if c.OK = err == nil; c.OK {
			err = img.Close()
		}
		c.Detail = path
		if err != nil {
			c.Detail = err.Error()
			c.Remedies = []string{"let MSB_KERNEL name a libkrunfw bundle, a vmlinux or a bzImage, or unset it"}
		}
		return c
	}
	img, err := kernel.OpenEmbedded(h.path("cache", "gomsb"))
	if c.OK = err == nil; c.OK {
		err = img.Close()
		c.Detail = "embedded"
	}
	if err != nil {
		c.Detail = err.Error()
		c.Remedies = []string{"remove " + h.path("cache", "gomsb") + ", or let MSB_KERNEL name a kernel file"}
	}
	return c
}
