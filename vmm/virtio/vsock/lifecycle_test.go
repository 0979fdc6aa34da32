package vsock

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio"
)

func TestResetEndsAllConnections(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	reader, writer := g.connect(1, 2), g.connect(1, 3)
	closed := g.connect(1, 4)
	require.NoError(t, closed.Close())
	h, _ := g.recv()
	assert.Equal(t, opShutdown, h.op)
	g.window(1, 3, 0)
	g.hoard()
	failed := make(chan error, 3)
	go func() {
		_, err := reader.Read(make([]byte, 1))
		failed <- err
	}()
	go func() {
		_, err := writer.Write(make([]byte, 1))
		failed <- err
	}()
	go func() {
		_, err := g.Dial(context.Background(), 80)
		failed <- err
	}()
	g.eventually(func() bool { return g.Stats().Conns == 4 })
	for range 3 {
		g.send(header{op: opData, srcPort: 9, dstPort: 9}, nil)
	}
	g.restart()
	for range 3 {
		require.ErrorIs(t, <-failed, ErrReset)
	}
	assert.Zero(t, g.Stats().Conns)
	g.silence()
	assert.NoError(t, reader.Close())
	_, err := reader.Read(make([]byte, 1))
	assert.ErrorIs(t, err, net.ErrClosed)
	// The next driver starts afresh.
	g.exchange(g.connect(1, 2))
	g.exchange(g.dial(80))
}

func TestResetOften(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	for i := range uint32(50) {
		c := g.connect(1, i)
		g.exchange(c)
		g.restart()
		_, err := c.Write([]byte{1})
		require.ErrorIs(t, err, ErrReset)
	}
}

func TestPauseHoldsEverythingAndResumeLosesNothing(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.connect(1, 2)
	g.MMIO.Pause()
	written := make(chan error, 1)
	go func() {
		_, err := c.Write([]byte("to the guest"))
		written <- err
	}()
	g.post(header{op: opData, srcPort: 2, dstPort: 1, alloc: 1000}, []byte("to the host"))
	g.post(header{op: opData, srcPort: 9, dstPort: 1}, nil)
	g.silence()
	assert.Zero(t, g.used(txQueue))
	require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	_, err := c.Read(make([]byte, 1))
	require.Error(t, err, "deadlines go on")
	require.NoError(t, c.SetReadDeadline(time.Time{}))
	g.MMIO.Resume()
	require.NoError(t, <-written)
	b := make([]byte, 20)
	n, err := c.Read(b)
	require.NoError(t, err)
	assert.Equal(t, "to the host", string(b[:n]))
	seen := map[operation]string{}
	for range 2 {
		h, p := g.recv()
		seen[h.op] = string(p)
	}
	assert.Equal(t, map[operation]string{opData: "to the guest", opReset: ""}, seen)
	g.reap()
	for range 100 {
		g.MMIO.Pause()
		g.MMIO.Resume()
		g.exchange(c)
	}
}

func TestCloseWhilePaused(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.connect(1, 2)
	g.MMIO.Pause()
	require.NoError(t, c.Close())
	g.silence()
	g.MMIO.Resume()
	h, _ := g.recv()
	assert.Equal(t, opShutdown, h.op)
}

func TestCloseOfTheDevice(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.connect(1, 2)
	require.NoError(t, g.MMIO.Close())
	require.NoError(t, g.Device.Close())
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, ErrReset)
	_, err = g.Dial(context.Background(), 1)
	require.ErrorIs(t, err, ErrNotReady)
}

// TestRestore copies a machine at a moment when a connection is open and another half
// open (N74). The copy has neither, and says so before anything else.
func TestRestore(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	c := g.connect(1, 2)
	dialled := make(chan error)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, err := g.Dial(ctx, 80)
		dialled <- err
	}()
	request, _ := g.recv()
	assert.Equal(t, opRequest, request.op)
	g.MMIO.Pause()
	state := g.Save()
	clone := g.clone(state)
	g.MMIO.Resume()

	// The original goes on.
	g.exchange(c)
	cancel()
	require.ErrorIs(t, <-dialled, context.Canceled)

	// The copy sends the event and nothing else until the guest has taken it in.
	failed := make(chan error)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		_, err := clone.Dial(ctx, 80)
		failed <- err
	}()
	event := clone.event()
	assert.Equal(t, []byte{0, 0, 0, 0}, event, "VIRTIO_VSOCK_EVENT_TRANSPORT_RESET")
	require.ErrorIs(t, <-failed, context.DeadlineExceeded)
	clone.silence()
	// Not even a pause opens the way (Firecracker #6100).
	clone.MMIO.Pause()
	clone.MMIO.Resume()
	clone.silence()
	clone.repostEvents()
	second := clone.dial(80)
	assert.NotEqual(t, request.srcPort, second.key.host, "the port is not used again")
	clone.exchange(second)
	clone.exchange(clone.connect(1, 2))
}

// TestRestoreBeforeTheGuestTookTheEvent saves a copy once more before it has heard that
// it is one.
func TestRestoreBeforeTheGuestTookTheEvent(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	g.MMIO.Pause()
	first := g.clone(g.Save())
	first.event()
	first.MMIO.Pause()
	second := first.clone(first.Save())
	second.silence()
	second.repostEvents()
	assert.Equal(t, []byte{0, 0, 0, 0}, second.event())
	second.repostEvents()
	second.exchange(second.dial(80))
}

func TestStateIsChecked(t *testing.T) {
	t.Parallel()
	d, err := New(Config{GuestCID: 3})
	require.NoError(t, err)
	good, err := d.SaveState()
	require.NoError(t, err)
	other, err := New(Config{GuestCID: 4})
	require.NoError(t, err)
	require.NoError(t, other.RestoreState(good))
	again, err := other.SaveState()
	require.NoError(t, err)
	assert.Equal(t, good, again)
	bad := map[string][]byte{
		"empty": nil, "short": good[:7], "long": append(append([]byte(nil), good...), 0),
		"version": {2, 0, 0, 0, 0, 0, 0, 0x50}, "port": {1, 0, 0, 0, 5, 0, 0, 0}, "any port": {1, 0, 0, 0, 255, 255, 255, 255},
	}
	for name, b := range bad {
		assert.ErrorIs(t, other.RestoreState(b), virtio.ErrState, name)
	}
}

// TestBrokenQueueEndsAllConnections makes the guest lie about its rings.
func TestBrokenQueueEndsAllConnections(t *testing.T) {
	t.Parallel()
	for queue, provoke := range map[int]func(g *guest, c *Conn){
		rxQueue: func(g *guest, c *Conn) { _, _ = c.Write([]byte{1}) },
		txQueue: func(g *guest, c *Conn) {},
	} {
		g := newGuest(t)
		c := g.connect(1, 2)
		g.corrupt(queue)
		provoke(g, c)
		g.eventually(func() bool { return g.failure() != nil })
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, ErrReset)
		_, err = io.WriteString(c, "x")
		require.ErrorIs(t, err, ErrReset)
		_, err = g.Dial(context.Background(), 1)
		require.ErrorIs(t, err, ErrNotReady)
		g.restart()
		g.exchange(g.connect(1, 2))
	}
}
