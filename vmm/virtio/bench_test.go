package virtio_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// BenchmarkQueue takes and returns chains of four descriptors, without a goroutine in
// between.
func BenchmarkQueue(b *testing.B) {
	for name, cfg := range map[string]virtiotest.Config{"direct": {}, "indirect": {Indirect: true}, "flags": {Refuse: noEventIdx}} {
		b.Run(name, func(b *testing.B) {
			_, q, dev := open(b, cfg)
			var c virtio.Chain
			bufs := []virtiotest.Buffer{in(data, 16), in(data, 4096), in(data, 4096), out(data, 1)}
			b.ReportAllocs()
			for b.Loop() {
				q.Add(bufs...)
				if ok, err := dev.Pop(&c); !ok || err != nil {
					b.Fatal(err)
				}
				if err := dev.Push(c.Head, 1); err != nil {
					b.Fatal(err)
				}
				if err := dev.Notify(); err != nil {
					b.Fatal(err)
				}
				q.Take()
			}
		})
	}
}

// BenchmarkWorker measures the way from a notification to the interrupt.
func BenchmarkWorker(b *testing.B) {
	d := virtiotest.Start(b, serve(false, size), virtiotest.Config{})
	q := d.Queues[0]
	b.ReportAllocs()
	for b.Loop() {
		q.Add(in(data, 1))
		q.Kick()
		for {
			if _, ok := q.Take(); ok {
				break
			}
			q.Sleep()
		}
	}
	require.NoError(b, d.MMIO.Failure())
}
