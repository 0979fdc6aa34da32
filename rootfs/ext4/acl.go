package ext4

import "errors"

const (
	aclVersion     = 2 // of the form that programs see
	aclVersionExt4 = 1 // of the form on disk

	aclUser  = 0x02
	aclGroup = 0x08
)

var errACL = errors.New("malformed access control list")

// encodeACL turns a POSIX ACL from the form of its xattr, in which every entry has an
// id, into that of ext4, in which only named users and groups have.
func encodeACL(p []byte) ([]byte, error) {
	if len(p) < 4 || (len(p)-4)%8 != 0 || le.Uint32(p) != aclVersion {
		return nil, errACL
	}
	out := le.AppendUint32(nil, aclVersionExt4)
	for p = p[4:]; len(p) > 0; p = p[8:] {
		out = append(out, p[:4]...) // tag and permissions
		switch tag := le.Uint16(p); tag {
		case aclUser, aclGroup:
			out = append(out, p[4:8]...)
		case 0x01, 0x04, 0x10, 0x20: // owner, owning group, mask, others
		default:
			return nil, errACL
		}
	}
	return out, nil
}
