package proto

import (
	"fmt"
	"net/netip"
)

// Bootstrap is the payload of core.bootstrap, the first frame a host sends: everything the
// guest's init needs. The same struct is the "bootstrap" object of the launch JSON, where
// addresses are text. Every field is optional; see [Bootstrap.Validate].
type Bootstrap struct {
	BlockRoot       *BlockRoot      `cbor:"block_root,omitempty" json:"block_root,omitempty"`
	DirMounts       []DirMount      `cbor:"dir_mounts,omitempty" json:"dir_mounts,omitempty"`
	FileMounts      []FileMount     `cbor:"file_mounts,omitempty" json:"file_mounts,omitempty"`
	DiskMounts      []DiskMount     `cbor:"disk_mounts,omitempty" json:"disk_mounts,omitempty"`
	TmpfsMounts     []TmpfsMount    `cbor:"tmpfs_mounts,omitempty" json:"tmpfs_mounts,omitempty"`
	Hostname        string          `cbor:"hostname,omitempty" json:"hostname,omitempty"`
	HostAlias       string          `cbor:"host_alias,omitempty" json:"host_alias,omitempty"`
	Network         *Network        `cbor:"network,omitempty" json:"network,omitempty"`
	Rlimits         []Rlimit        `cbor:"rlimits,omitempty" json:"rlimits,omitempty"`
	User            string          `cbor:"user,omitempty" json:"user,omitempty"`
	DefaultCwd      string          `cbor:"default_cwd,omitempty" json:"default_cwd,omitempty"`
	DefaultEnv      []EnvVar        `cbor:"default_env,omitempty" json:"default_env,omitempty"`
	SecurityProfile SecurityProfile `cbor:"security_profile" json:"security_profile" wire:"default"`
	HandoffInit     *HandoffInit    `cbor:"handoff_init,omitempty" json:"handoff_init,omitempty"`
}

func (b *Bootstrap) setDefaults() { b.SecurityProfile = ProfileDefault }

// SecurityProfile selects what commands may do in the guest.
type SecurityProfile string

// The security profiles.
const (
	ProfileDefault    SecurityProfile = "default"
	ProfileRestricted SecurityProfile = "restricted"
)

// orDefault turns the zero value into the name of the default profile.
func (p SecurityProfile) orDefault() SecurityProfile {
	if p == "" {
		return ProfileDefault
	}
	return p
}

// MarshalCBOR writes the profile; the zero value is written as "default".
func (p SecurityProfile) MarshalCBOR() ([]byte, error) { return marshal(string(p.orDefault())) }

// MarshalText is the profile in JSON; the zero value is written as "default".
func (p SecurityProfile) MarshalText() ([]byte, error) { return []byte(p.orDefault()), nil }

// BlockRootKind tags a BlockRoot.
type BlockRootKind string

// The kinds of block root.
const (
	RootDiskImage BlockRootKind = "disk-image" // Device, FSType
	RootOCIErofs  BlockRootKind = "oci-erofs"  // Lower, Upper
)

// BlockRoot says which block devices hold the root file system. Kind selects the fields;
// the others stay empty. An empty FSType means: try the kernel's list.
type BlockRoot struct {
	Kind   BlockRootKind `cbor:"kind" json:"kind"`
	Device string        `cbor:"device,omitempty" json:"device,omitempty"`
	FSType string        `cbor:"fstype,omitempty" json:"fstype,omitempty"`
	Lower  string        `cbor:"lower,omitempty" json:"lower,omitempty"`
	Upper  *Upper        `cbor:"upper,omitempty" json:"upper,omitempty"`
}

// UpperKind tags an Upper.
type UpperKind string

// The kinds of upper layer.
const (
	UpperDevice UpperKind = "device" // Device, FSType
	UpperTmpfs  UpperKind = "tmpfs"  // SizeMiB
)

// Upper is the writable layer over an EROFS root. Kind selects the fields.
type Upper struct {
	Kind    UpperKind `cbor:"kind" json:"kind"`
	Device  string    `cbor:"device,omitempty" json:"device,omitempty"`
	FSType  string    `cbor:"fstype,omitempty" json:"fstype,omitempty"`
	SizeMiB *uint32   `cbor:"size_mib,omitempty" json:"size_mib,omitempty"`
}

// MountFlags restrict a mount.
type MountFlags struct {
	ReadOnly bool `cbor:"readonly" json:"readonly" wire:"default"`
	NoExec   bool `cbor:"noexec" json:"noexec" wire:"default"`
	NoSUID   bool `cbor:"nosuid" json:"nosuid" wire:"default"`
	NoDev    bool `cbor:"nodev" json:"nodev" wire:"default"`
}

// DirMount is a shared directory, named by its device tag.
type DirMount struct {
	Tag       string     `cbor:"tag" json:"tag"`
	GuestPath string     `cbor:"guest_path" json:"guest_path"`
	Flags     MountFlags `cbor:"flags" json:"flags" wire:"default"`
}

// FileMount is one file of a shared directory.
type FileMount struct {
	Tag       string     `cbor:"tag" json:"tag"`
	Filename  string     `cbor:"filename" json:"filename"`
	GuestPath string     `cbor:"guest_path" json:"guest_path"`
	Flags     MountFlags `cbor:"flags" json:"flags" wire:"default"`
}

// DiskMount is a block device, found by its serial. An empty FSType means: try the
// kernel's list.
type DiskMount struct {
	ID        string     `cbor:"id" json:"id"`
	GuestPath string     `cbor:"guest_path" json:"guest_path"`
	FSType    string     `cbor:"fstype,omitempty" json:"fstype,omitempty"`
	Flags     MountFlags `cbor:"flags" json:"flags" wire:"default"`
}

// TmpfsMount is a memory file system of at most SizeMiB mebibytes (nil: the kernel's
// default) whose root has permission bits Mode (nil: 1777 for /tmp and /var/tmp, else 755).
type TmpfsMount struct {
	Path    string     `cbor:"path" json:"path"`
	SizeMiB *uint32    `cbor:"size_mib,omitempty" json:"size_mib,omitempty"`
	Mode    *uint32    `cbor:"mode,omitempty" json:"mode,omitempty"`
	Flags   MountFlags `cbor:"flags" json:"flags" wire:"default"`
}

// EnvVar is one environment variable.
type EnvVar struct {
	Key   string `cbor:"key" json:"key"`
	Value string `cbor:"value" json:"value"`
}

// HandoffInit replaces the agent as PID 1. Cmd is an absolute path or "auto".
type HandoffInit struct {
	Cmd  string   `cbor:"cmd" json:"cmd"`
	Args []string `cbor:"args,omitempty" json:"args,omitempty"`
	Cwd  string   `cbor:"cwd,omitempty" json:"cwd,omitempty"`
	Env  []EnvVar `cbor:"env,omitempty" json:"env,omitempty"`
}

// Network configures the guest's interface.
type Network struct {
	Interface string   `cbor:"interface" json:"interface"`
	MAC       MAC      `cbor:"mac" json:"mac"`
	MTU       uint16   `cbor:"mtu" json:"mtu"`
	IPv4      *Address `cbor:"ipv4,omitempty" json:"ipv4,omitempty"`
	IPv6      *Address `cbor:"ipv6,omitempty" json:"ipv6,omitempty"`
}

// Address is the interface's address of one family with its default route.
type Address struct {
	Address   IP    `cbor:"address" json:"address"`
	PrefixLen uint8 `cbor:"prefix_len" json:"prefix_len"`
	Gateway   IP    `cbor:"gateway" json:"gateway"`
	DNS       *IP   `cbor:"dns,omitempty" json:"dns,omitempty"`
}

// MAC is an Ethernet address: an array of six integers both in CBOR and in JSON.
type MAC [6]byte

// IP is an address that is an array of 4 or 16 integers in CBOR and text in JSON.
type IP struct{ netip.Addr }

// MarshalCBOR writes the address's bytes as an array of integers.
func (ip IP) MarshalCBOR() ([]byte, error) {
	if !ip.IsValid() {
		return nil, fmt.Errorf("address is not set")
	}
	return appendIntArray(nil, ip.AsSlice()), nil
}

// UnmarshalCBOR reads 4 or 16 integers or bytes.
func (ip *IP) UnmarshalCBOR(b []byte) error {
	c := cursor{b: b}
	raw, err := c.bytes()
	if err != nil {
		return err
	}
	addr, ok := netip.AddrFromSlice(raw)
	if !ok {
		return fmt.Errorf("address of %d bytes", len(raw))
	}
	ip.Addr = addr
	return nil
}

// MarshalCBOR writes an array of six integers.
func (m MAC) MarshalCBOR() ([]byte, error) { return appendIntArray(nil, m[:]), nil }

// UnmarshalCBOR reads exactly six integers or bytes.
func (m *MAC) UnmarshalCBOR(b []byte) error {
	c := cursor{b: b}
	raw, err := c.bytes()
	if err != nil {
		return err
	}
	if len(raw) != len(m) {
		return fmt.Errorf("hardware address of %d bytes", len(raw))
	}
	copy(m[:], raw)
	return nil
}

func appendIntArray(dst, p []byte) []byte {
	dst = appendHead(dst, majorArray, uint64(len(p)))
	for _, x := range p {
		dst = appendHead(dst, majorUint, uint64(x))
	}
	return dst
}
