package vsock

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOutboxHoldsEachConnectionOnce(t *testing.T) {
	t.Parallel()
	var o outbox
	a, b, c := &Conn{}, &Conn{}, &Conn{}
	for _, x := range []*Conn{a, b, a, c, b, a} {
		o.push(x)
	}
	n, _ := o.len()
	assert.Equal(t, 3, n)
	assert.Same(t, a, o.pop())
	o.push(a)
	for _, want := range []*Conn{b, c, a, nil} {
		assert.Same(t, want, o.pop())
	}
}

func TestOutboxBoundsRefusals(t *testing.T) {
	t.Parallel()
	var o outbox
	for round := range uint32(3) {
		for i := range uint32(maxResets) {
			require.False(t, o.full())
			r := refusal{key: key{host: round, guest: i}}
			o.refuse(r)
			o.refuse(r) // no second one for the same
		}
		require.True(t, o.full())
		for i := range uint32(maxResets) {
			r, ok := o.peek()
			require.True(t, ok)
			require.Equal(t, key{host: round, guest: i}, r.key)
			require.Equal(t, i == 0, o.drop(), "only the first drop sets the tx queue going")
		}
		_, ok := o.peek()
		require.False(t, ok)
	}
	o.refuse(refusal{})
	o.push(&Conn{})
	o.clear()
	conns, refusals := o.len()
	assert.Zero(t, conns+refusals)
}

func TestPortsRiseAndSkipThoseInUse(t *testing.T) {
	t.Parallel()
	d, err := New(Config{GuestCID: 3, MaxConns: 4})
	require.NoError(t, err)
	_, err = d.table.addDialled(d, 5)
	require.ErrorIs(t, err, ErrNotReady)
	d.table.start()
	d.table.nextPort = 1<<32 - 2
	first, err := d.table.addDialled(d, 5)
	require.NoError(t, err)
	assert.Equal(t, key{host: 1<<32 - 2, guest: 5}, first.key)
	require.NoError(t, d.table.add(newConn(d, key{host: firstPort, guest: 5})))
	second, err := d.table.addDialled(d, 5)
	require.NoError(t, err)
	assert.Equal(t, key{host: firstPort + 1, guest: 5}, second.key, "neither VMADDR_PORT_ANY nor one in use")
	_, err = d.table.addDialled(d, 6)
	require.NoError(t, err)
	_, err = d.table.addDialled(d, 6)
	require.ErrorIs(t, err, ErrTooMany)
	assert.Len(t, d.table.stop(), 4)
	assert.Zero(t, d.table.len())
}
