package fs

import "encoding/binary"

// Parked returns the backend of a device that has no file system yet: every request fails
// with ENODEV. A device that was saved with it before the guest mounted anything may be
// restored with any other backend.
func Parked() Backend { return parked{} }

type parked struct{}

// noDevice is -ENODEV as struct fuse_out_header has it.
const noDevice = -19

// outHeader is the size of struct fuse_out_header: length, error, unique.
const outHeader = 16

func (parked) Serve(header *[HeaderSize]byte, _, out [][]byte, _ bool) (uint32, bool) {
	if len(out) == 0 || len(out[0]) < outHeader {
		return 0, false
	}
	le, code := binary.LittleEndian, int32(noDevice)
	le.PutUint32(out[0], outHeader)
	le.PutUint32(out[0][4:], uint32(code))
	copy(out[0][8:outHeader], header[8:16])
	return outHeader, false
}

func (parked) Reset()                     {}
func (parked) SaveState() ([]byte, error) { return nil, nil }
func (parked) RestoreState([]byte) error  { return nil }
func (parked) Close() error               { return nil }
