package blk

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/virtiotest"
)

// noise is n bytes that differ everywhere.
func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// image makes a file.
func image(t testing.TB, content []byte) string {
	path := filepath.Join(t.TempDir(), "disk.img")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

func openRaw(t testing.TB, path string, readOnly bool) Backend {
	t.Helper()
	b, err := OpenRaw(path, readOnly)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, b.Close()) })
	return b
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	assert.NoError(t, (&Config{Backend: newFake(1), Serial: strings.Repeat("x", 20)}).Validate())
	for name, c := range map[string]Config{
		"no backend":   {},
		"long serial":  {Backend: newFake(1), Serial: strings.Repeat("x", 21)},
		"NUL":          {Backend: newFake(1), Serial: "a\x00b"},
		"empty disk":   {Backend: newFake(0)},
		"part sectors": {Backend: &fake{data: make([]byte, 700)}},
	} {
		assert.ErrorIs(t, c.Validate(), ErrConfig, name)
		d, err := New(c)
		assert.ErrorIs(t, err, ErrConfig, name)
		assert.Nil(t, d, name)
	}
}

func TestConfigSpace(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	rw := newGuest(t, newFake(12345), virtiotest.Config{})
	c := rw.Config(0, 60)
	assert.EqualValues(t, 12345, le.Uint64(c[0:]), "capacity")
	assert.EqualValues(t, 254, le.Uint32(c[12:]), "seg_max")
	assert.EqualValues(t, 512, le.Uint32(c[20:]), "blk_size")
	assert.EqualValues(t, maxDiscardSectors, le.Uint32(c[36:]))
	assert.EqualValues(t, maxRanges, le.Uint32(c[40:]))
	assert.EqualValues(t, 8, le.Uint32(c[44:]))
	assert.EqualValues(t, maxZeroSectors, le.Uint32(c[48:]))
	assert.EqualValues(t, maxRanges, le.Uint32(c[52:]))
	assert.EqualValues(t, 1, c[56])
	assert.Equal(t, make([]byte, 4), rw.Config(60, 4), "beyond its end")
	assert.EqualValues(t, 2, rw.Load(virtiotest.RegDeviceID))
	assert.EqualValues(t, featureFlush, rw.Features&(featureFlush|featureReadOnly))

	ro := newGuestOf(t, Config{Backend: newFake(1), ReadOnly: true}, virtiotest.Config{})
	assert.EqualValues(t, featureReadOnly, ro.Features&(featureFlush|featureReadOnly|featureDiscard|featureWriteZeroes))
	assert.Equal(t, make([]byte, 24), ro.Config(36, 24))
	f := newFake(1)
	f.readOnly = true
	assert.NotZero(t, newGuest(t, f, virtiotest.Config{}).Features&featureReadOnly, "as the backend says")
}

// layouts are the ways in which a driver may lay a request out.
var layouts = map[string]virtiotest.Config{
	"direct":       {},
	"indirect":     {Indirect: true},
	"small queue":  {QueueSize: 8},
	"no event_idx": {Refuse: virtio.FeatureEventIdx},
	"no indirect":  {Refuse: virtio.FeatureIndirectDesc},
	"plain":        {Refuse: virtio.FeatureIndirectDesc | virtio.FeatureEventIdx, QueueSize: 4},
}

func TestReadAndWrite(t *testing.T) {
	t.Parallel()
	for name, cfg := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			content := noise(256 * SectorSize)
			path := image(t, content)
			g := newGuest(t, openRaw(t, path, false), cfg)
			assert.Equal(t, content, g.read(0, len(content)))
			assert.Equal(t, content[255*SectorSize:], g.read(255, SectorSize), "the last sector")
			for i, n := range []int{1, 2, 128, 255} {
				p := noise(n*SectorSize + i)[i:]
				g.write(1, p)
				copy(content[SectorSize:], p)
				assert.Equal(t, content, g.read(0, len(content)))
			}
			file, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, content, file)
			g.ok(kindFlush, 0)
			s := g.dev.Stats()
			assert.EqualValues(t, 5*len(content)+SectorSize, s.Read)
			assert.EqualValues(t, (1+2+128+255)*SectorSize, s.Written)
			assert.Zero(t, s.Failed)
		})
	}
}

// TestScatter moves data between the disk and many odd buffers: more than one system
// call's worth.
func TestScatter(t *testing.T) {
	t.Parallel()
	content := noise(512 * SectorSize)
	g := newGuest(t, openRaw(t, image(t, content), false), virtiotest.Config{Indirect: true})
	r := rand.New(rand.NewPCG(3, 4))
	for range 30 {
		sector, sectors := uint64(r.IntN(256)), 1+r.IntN(256)
		total := uint64(sectors * SectorSize)
		var ins, outs []virtiotest.Buffer
		var where []uint64 // of each byte's buffer in the data area
		for left, off := total, uint64(0); left > 0; {
			n := min(left, uint64(1+r.IntN(int(total/100)+40)))
			if len(ins) == segMax-1 {
				n = left
			}
			ins, outs, where = append(ins, in(off, uint32(n))), append(outs, out(off, uint32(n))), append(where, off)
			left, off = left-n, off+n+uint64(r.IntN(50))
		}
		gather := func() (all []byte) {
			for i, b := range ins {
				all = append(all, g.data(where[i], int(b.Len))...)
			}
			return all
		}
		require.EqualValues(t, total+1, g.ok(kindRead, sector, ins...))
		begin := sector * SectorSize
		require.True(t, bytes.Equal(content[begin:begin+total], gather()), "%d buffers", len(ins))
		for i, b := range ins {
			copy(g.data(where[i], int(b.Len)), noise(int(b.Len)))
		}
		copy(content[begin:], gather())
		require.EqualValues(t, 1, g.ok(kindWrite, sector, outs...))
	}
	assert.True(t, bytes.Equal(content, g.read(0, len(content))))
}

func TestHeaderAndStatusInPieces(t *testing.T) {
	t.Parallel()
	content := noise(8 * SectorSize)
	g := newGuest(t, openRaw(t, image(t, content), false), virtiotest.Config{})
	h := g.header(0, kindRead, 3)
	// The status byte is the last one of the data's buffer.
	end := in(256, 257)
	g.Bytes(dataArea+512, 1)[0] = noStatus
	u := g.q.Do(
		virtiotest.Buffer{Addr: h.Addr, Len: 1}, virtiotest.Buffer{Addr: h.Addr + 1, Len: 10}, virtiotest.Buffer{Addr: h.Addr + 11, Len: 5},
		in(0, 256), end)
	assert.EqualValues(t, 513, u.Len)
	assert.EqualValues(t, statusOK, g.data(512, 1)[0])
	assert.Equal(t, content[3*SectorSize:4*SectorSize], g.data(0, 512))

	// A header and data of a write in one buffer.
	copy(g.data(1024, 1024), noise(1024))
	binary.LittleEndian.PutUint32(g.data(1024-16, 4), uint32(kindWrite))
	binary.LittleEndian.PutUint32(g.data(1024-12, 4), 0)
	binary.LittleEndian.PutUint64(g.data(1024-8, 8), 6)
	g.q.Do(out(1024-16, 16+1024), g.status(9))
	require.Equal(t, statusOK, g.result(9))
	assert.Equal(t, noise(1024), g.read(6, 1024))
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	for serial, want := range map[string]string{"": strings.Repeat("\x00", 20), "vda": "vda" + strings.Repeat("\x00", 17), "01234567890123456789": "01234567890123456789"} {
		g := newGuestOf(t, Config{Backend: newFake(1), Serial: serial}, virtiotest.Config{})
		copy(g.data(0, 20), strings.Repeat("x", 20))
		g.ok(kindGetID, 0, in(0, 7), in(7, 13))
		assert.Equal(t, want, string(g.data(0, 20)))
	}
}

func TestDiscardAndWriteZeroes(t *testing.T) {
	t.Parallel()
	content := noise(1024 * SectorSize)
	path := image(t, content)
	g := newGuest(t, openRaw(t, path, false), virtiotest.Config{})
	check := func(what string) {
		t.Helper()
		file, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(content, file), what)
	}
	wipeOut := func(sector, n int) { clear(content[sector*SectorSize : (sector+n)*SectorSize]) }

	g.ok(kindWriteZeroes, 0, g.ranges([3]uint64{1, 3, 0}))
	wipeOut(1, 3)
	check("one range")
	g.ok(kindWriteZeroes, 0, g.ranges([3]uint64{9, 200, flagUnmap}, [3]uint64{300, 1, 0}, [3]uint64{500, 0, 0}, [3]uint64{1023, 1, 0}))
	wipeOut(9, 200)
	wipeOut(300, 1)
	wipeOut(1023, 1)
	check("several ranges")
	// The content of what was discarded is anything; Linux makes holes, of zeros.
	g.ok(kindDiscard, 0, g.ranges([3]uint64{512, 256, 0}, [3]uint64{1024, 0, 0}))
	g.read(512, 256*SectorSize)
	wipeOut(512, 256)
	g.write(512, content[512*SectorSize:768*SectorSize])
	check("discarded")
}

func TestManyRequestsInFlight(t *testing.T) {
	t.Parallel()
	for name, cfg := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			content := noise(512 * SectorSize)
			g := newGuest(t, openRaw(t, image(t, content), false), cfg)
			depth := min(60, g.q.Free()/3)
			for round := range 20 {
				want := make(map[int]uint64)
				for i := range depth {
					sector := uint64((round*31 + i*7) % 511)
					if i%4 == 3 {
						g.submit(kindFlush, 0)
						continue
					}
					want[g.add(kindRead, sector, in(uint64(i)*1024, 1024))] = sector
					if i%3 == 0 {
						g.q.Kick()
					}
				}
				g.q.Notify()
				base := g.slot
				for range depth {
					g.q.Wait()
				}
				for slot, sector := range want {
					require.Equal(t, statusOK, g.result(slot))
					i := uint64((slot - base + depth + 1024) % 1024)
					require.True(t, bytes.Equal(content[sector*SectorSize:][:1024], g.data(i*1024, 1024)), "request %d", i)
				}
			}
		})
	}
}

func TestNothingAllocates(t *testing.T) {
	g := newGuest(t, openRaw(t, image(t, noise(1024*SectorSize)), false), virtiotest.Config{Indirect: true})
	var bufs [2 + 200]virtiotest.Buffer
	run := func(k kind, n int, write bool) {
		bufs[0] = g.header(0, k, 0)
		for i := range n {
			bufs[1+i] = virtiotest.Buffer{Addr: dataArea + uint64(i)*512, Len: 512, Write: write}
		}
		bufs[1+n] = g.status(0)
		g.q.Add(bufs[:2+n]...)
		g.q.Kick()
		for {
			if _, ok := g.q.Take(); ok {
				break
			}
			g.q.Sleep()
		}
		if g.result(0) != statusOK {
			panic("request failed")
		}
	}
	for name, f := range map[string]func(){
		"short read":  func() { run(kindRead, 8, true) },
		"long read":   func() { run(kindRead, 200, true) },
		"short write": func() { run(kindWrite, 8, false) },
		"long write":  func() { run(kindWrite, 200, false) },
		"flush":       func() { run(kindFlush, 0, false) },
	} {
		for range 20 {
			f() // workers start, buffers grow
		}
		assert.Less(t, testing.AllocsPerRun(200, f), 0.1, name)
	}
}
