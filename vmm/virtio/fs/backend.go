package fs

import "errors"

var (
	// ErrConfig is wrapped by the errors of Config.Validate.
	ErrConfig = errors.New("invalid file system device configuration")
	// ErrBusy reports a device whose state cannot be saved now, but maybe later.
	ErrBusy = errors.New("a request of the guest waits for a lock")
)

// HeaderSize is the length in bytes of struct fuse_in_header, with which every request
// begins.
const HeaderSize = 40

// Backend is a FUSE server. The device calls Serve from several goroutines at a time, and
// the other methods while no Serve is under way.
type Backend interface {
	// Serve carries out the request in the segments of in and writes the answer to those
	// of out. It returns how many bytes of out it has filled from their start on: 0 for a
	// request that has no answer. The segments are guest memory, which may change at any
	// time, and valid during the call only; header is a copy of the first bytes of in, to
	// be used in their place.
	//
	// Who is not patient wants no wait for a disk that can be foreseen. With again the
	// answer would take a wait: nothing counts of what was written, and the device will
	// call Serve once more, patiently. From a patient call it means that the request has
	// to wait for another one, and the device tries it again later.
	Serve(header *[HeaderSize]byte, in, out [][]byte, patient bool) (n uint32, again bool)
	// Reset ends the session: the driver is gone, with all that it has opened.
	Reset()
	// SaveState encodes the session, and RestoreState, of a server that had none yet,
	// continues it.
	SaveState() ([]byte, error)
	RestoreState([]byte) error
	// Close frees everything.
	Close() error
}
