package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"time"
)

// version is that of the manifest.
const version = 1

// Limits of a manifest.
const (
	maxProcessors = 255
	maxMemoryMiB  = 1 << 23
	maxDisks      = 256
	maxShares     = 1024
	maxText       = 4096 // bytes of a name or tag
	// maxManifest bounds the file, in bytes.
	maxManifest = 16 << 20
)

// Manifest says how the machine was built that was saved. One that goes on from there must
// be built alike.
type Manifest struct {
	Source  string    `json:"source"` // name of the sandbox
	Created time.Time `json:"created"`
	// Processors and memory as the machine started with them, and as it may have them.
	VCPUs        int `json:"vcpus"`
	MaxVCPUs     int `json:"max_vcpus"`
	MemoryMiB    int `json:"memory_mib"`
	MaxMemoryMiB int `json:"max_memory_mib"`
	// Stats has the guest report its memory.
	Stats  bool    `json:"stats"`
	Net    *Net    `json:"net"` // nil: no network card
	Shares []Share `json:"shares"`
	// ReadOnly tells of each disk of the sandbox, in order, whether the guest cannot write
	// to it; the agent's own is not among them.
	ReadOnly []bool `json:"read_only"`
	// Disks are those that the guest can write to, ascending.
	Disks []Disk `json:"disks"`
}

// Net is the network card.
type Net struct {
	MAC MAC    `json:"mac"` // that the card was built with
	MTU uint16 `json:"mtu"` // 0: left to the guest
}

// MAC is a hardware address, in text as 02:00:00:00:00:01.
type MAC [6]byte

// MarshalText writes the address.
func (m MAC) MarshalText() ([]byte, error) { return []byte(net.HardwareAddr(m[:]).String()), nil }

// UnmarshalText reads an address.
func (m *MAC) UnmarshalText(b []byte) error {
	a, err := net.ParseMAC(string(b))
	if err != nil || len(a) != len(m) {
		return fmt.Errorf("hardware address %.40q", b)
	}
	copy(m[:], a)
	return nil
}

// Share is one directory of the host that the guest may mount.
type Share struct {
	Tag  string `json:"tag"`  // of the device
	Name string `json:"name"` // that the sandbox's configuration gives it
}

// Disk is the copy of a disk.
type Disk struct {
	Index  int    `json:"index"`  // of the machine's disks: 0 is /dev/vda
	File   string `json:"file"`   // in the checkpoint's directory, with slashes
	Format string `json:"format"` // raw or qcow2
	Own    bool   `json:"own"`    // the sandbox keeps it in its own directory
	Size   int64  `json:"size"`   // of the file, bytes
	Sum    Sum    `json:"sum"`    // of its content
}

// Path is where the disk is in the checkpoint at dir.
func (d *Disk) Path(dir string) string { return filepath.Join(dir, filepath.FromSlash(d.File)) }

// fileOf is the file of disk i.
func fileOf(i int) string { return disksName + "/" + strconv.Itoa(i) }

// envelope is the file: the manifest with its digest.
type envelope struct {
	Version  int             `json:"version"`
	Manifest json.RawMessage `json:"manifest"`
	SHA256   string          `json:"sha256"` // of the manifest's bytes, in hexadecimal
}

// encode writes the file, of a valid manifest.
func (m *Manifest) encode() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return json.Marshal(envelope{Version: version, Manifest: b, SHA256: digest(b)})
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// decode is the inverse of encode.
func decode(b []byte) (*Manifest, error) {
	damaged := func(err error) error { return fmt.Errorf("%w: its %s: %w", ErrDamaged, manifestName, err) }
	var e envelope
	if err := strict(b, &e); err != nil {
		// Another version may have other fields.
		var v struct{ Version int }
		if json.Unmarshal(b, &v) != nil || v.Version == version || v.Version == 0 {
			return nil, damaged(err)
		}
		e.Version = v.Version
	}
	if e.Version != version {
		return nil, fmt.Errorf("%w: its manifest is of version %d, known is %d", ErrVersion, e.Version, version)
	}
	if e.SHA256 != digest(e.Manifest) {
		return nil, damaged(fmt.Errorf("%w: the checksum is wrong", ErrManifest))
	}
	m := &Manifest{}
	if err := strict(e.Manifest, m); err != nil {
		return nil, damaged(err)
	}
	if err := m.Validate(); err != nil {
		return nil, damaged(err)
	}
	return m, nil
}

// strict decodes one JSON value whose fields are all known.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w: something follows it", ErrManifest)
	}
	return nil
}

// Validate reports the first value out of range. The error wraps [ErrManifest].
func (m *Manifest) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrManifest, fmt.Sprintf(format, args...))
	}
	switch {
	case m.Source == "" || len(m.Source) > maxText:
		return bad("the source's name has %d bytes", len(m.Source))
	case m.VCPUs < 1 || m.MaxVCPUs < m.VCPUs || m.MaxVCPUs > maxProcessors:
		return bad("%d of %d processors", m.VCPUs, m.MaxVCPUs)
	case m.MemoryMiB < 1 || m.MaxMemoryMiB < m.MemoryMiB || m.MaxMemoryMiB > maxMemoryMiB:
		return bad("%d of %d MiB of memory", m.MemoryMiB, m.MaxMemoryMiB)
	case len(m.Shares) > maxShares || len(m.ReadOnly) > maxDisks:
		return bad("%d shares and %d disks", len(m.Shares), len(m.ReadOnly))
	}
	for i, s := range m.Shares {
		if s.Tag == "" || s.Name == "" || len(s.Tag) > maxText || len(s.Name) > maxText {
			return bad("share %d has no proper tag and name", i)
		}
	}
	return m.validateDisks(bad)
}

// validateDisks checks that there is a copy of each disk that can be written to, and of no
// other.
func (m *Manifest) validateDisks(bad func(format string, args ...any) error) error {
	rest := m.Disks
	for i, readOnly := range m.ReadOnly {
		if readOnly {
			continue
		}
		if len(rest) == 0 || rest[0].Index != i {
			return bad("disk %d is missing", i)
		}
		d := &rest[0]
		switch {
		case d.File != fileOf(i):
			return bad("disk %d is in %.40q", i, d.File)
		case d.Format != "raw" && d.Format != "qcow2":
			return bad("disk %d is of format %.40q", i, d.Format)
		case d.Size < 0:
			return bad("disk %d has %d bytes", i, d.Size)
		}
		rest = rest[1:]
	}
	if len(rest) != 0 {
		return bad("there are too many copies of disks")
	}
	return nil
}
