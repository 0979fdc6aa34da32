package template

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/gomsb/gomsb/snapshot/format"
	"github.com/gomsb/gomsb/vmm"
	"github.com/gomsb/gomsb/vmm/virtio/blk"
)

// Shape is what two machines have in common of which one can go on where the other was
// saved. It is the whole input of a template.
type Shape struct {
	Build        string      `json:"build"`  // of this program
	Kernel       string      `json:"kernel"` // digests
	Agent        string      `json:"agent"`
	Host         format.Host `json:"host"`
	VCPUs        int         `json:"vcpus"`
	MaxVCPUs     int         `json:"max_vcpus"`
	MemoryMiB    int         `json:"memory_mib"`
	MaxMemoryMiB int         `json:"max_memory_mib"`
	// Words are those of the kernel's command line that are not the same in every machine.
	Words string `json:"words"`
	// Disks tells which disks before the agent's own are read-only.
	Disks []bool `json:"disks"`
	// Tags are those of the shares, in order.
	Tags []string `json:"tags"`
	// Net has the machine a network card, with this MTU; 0 leaves that to the guest.
	Net bool   `json:"net"`
	MTU uint16 `json:"mtu"`
	// Stats has the balloon report the guest's memory.
	Stats bool `json:"stats"`
}

// MAC is the address of the network card of every machine that has a template: what the
// guest finds at boot. The agent gives the card the sandbox's own.
var MAC = [6]byte{0x02, 'g', 'o', 'm', 's', 'b'}

// Tag is the tag of share i in every machine that has a template.
func Tag(i int) string { return "msb_share_" + strconv.Itoa(i) }

// key is the name of the shape's template: the SHA-256 of the shape, in hexadecimal.
func (s *Shape) key() (string, json.RawMessage, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return "", nil, err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), b, nil
}

// Parse takes what MarshalJSON of a shape wrote. The error says what makes no sense.
func Parse(b []byte) (*Shape, error) {
	s := &Shape{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("shape of a template: %w", err)
	}
	return s, nil
}

// header describes the shape's checkpoint.
func (s *Shape) header(m *vmm.Machine, shape json.RawMessage) format.Header {
	h := format.Header{
		Created: time.Now(), Kind: format.Template, Host: s.Host, Profile: string(m.Profile()), Kernel: s.Kernel, Agent: s.Agent,
		VCPUs: s.VCPUs, MaxVCPUs: s.MaxVCPUs, Devices: m.Devices(), Shape: shape,
	}
	for _, r := range m.Contents() {
		h.Regions = append(h.Regions, format.Region{Address: r.Base, Size: r.Size})
	}
	return h
}

// disks are parked ones.
func (s *Shape) disks() []vmm.Disk {
	var list []vmm.Disk
	for _, readOnly := range s.Disks {
		list = append(list, vmm.Disk{Backend: blk.Parked(readOnly), ReadOnly: readOnly})
	}
	return list
}
