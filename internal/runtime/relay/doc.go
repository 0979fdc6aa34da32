// Package relay joins the clients of one sandbox's agent socket to the guest agent: it
// brings the guest from its first frame to core.ready, gives every client a handshake and
// a range of ids, and passes frames both ways without changing them. It may import
// guestagent/proto, guestagent/flow, golang.org/x/sys and the standard library; it must never start or stop a machine, write
// a file, or answer a request that is meant for the guest.
//
// # Who may block whom
//
// A client that sends waits for the guest, as it should. Of one that knows windows no more
// comes than the guest has room for. For one that does not, the relay keeps to the windows
// of its commands' input: it holds a few mebibytes of each, and then stops reading that
// client. Other input of such a client may still make the guest stop reading everybody. A client that does not read gets
// a queue, and its sessions have windows (guestagent/flow): what is beyond them waits in the
// guest, and nobody else notices. A guest that knows no windows, or keeps to none, fills the
// queue; then its stream stops. Alone, such a client only slows itself. When others are attached it is
// given half a minute and then disconnected, so that it cannot stall them for ever.
package relay
