package launch

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Disk is a block device of the guest: "id:host:format[:ro]". The guest finds it by its
// serial number, which is the id.
type Disk struct {
	ID       string // 1 to 20 bytes
	Host     string // path of the image
	Format   string // raw, qcow2 or vmdk
	ReadOnly bool
}

// MaxSerial is the size of a virtio block device's serial number, bytes.
const MaxSerial = 20

// ParseDisk parses a disk string. Errors wrap [ErrMount].
func ParseDisk(s string) (Disk, error) {
	parts := strings.Split(s, ":")
	bad := func(why string) (Disk, error) {
		return Disk{}, fmt.Errorf("%w: disk %q: %s", ErrMount, s, why)
	}
	if len(parts) != 3 && len(parts) != 4 {
		return bad("want id:host:format[:ro]")
	}
	d := Disk{ID: parts[0], Host: parts[1], Format: parts[2], ReadOnly: len(parts) == 4}
	switch {
	case d.ID == "" || len(d.ID) > MaxSerial || strings.ContainsRune(d.ID, 0):
		return bad("the id is not 1 to 20 bytes")
	case d.Host == "" || strings.ContainsRune(d.Host, 0):
		return bad("the host path is empty or contains NUL")
	case !oneOf(d.Format, "raw", "qcow2", "vmdk"):
		return bad("the format is not raw, qcow2 or vmdk")
	case len(parts) == 4 && parts[3] != "ro":
		return bad("the fourth field may only be ro")
	}
	return d, nil
}

// String writes the disk string.
func (d Disk) String() string {
	s := d.ID + ":" + d.Host + ":" + d.Format
	if d.ReadOnly {
		s += ":ro"
	}
	return s
}

// GuestMountTag derives the device tag (and disk id) of a guest path: up to eleven
// characters of the path with slashes as underscores, and eight hex digits of its
// SHA-256. It fits a virtio block serial number for ASCII paths.
func GuestMountTag(guestPath string) string {
	sum := sha256.Sum256([]byte(guestPath))
	hash := hex.EncodeToString(sum[:4])
	slug := []rune(strings.TrimLeft(strings.ReplaceAll(guestPath, "/", "_"), "_"))
	if len(slug) == 0 {
		return hash
	}
	return string(slug[:min(len(slug), 11)]) + "_" + hash
}

// DiskPath is the device file that the guest gives to disk n (0-based) of a launch: the
// root disk, then its writable layer if it has one, then Disks in their order.
func DiskPath(n int) string { return "/dev/vd" + string(rune('a'+n)) }
