package balloon

import (
	"encoding/binary"

	"github.com/gomsb/gomsb/vmm/memory"
)

const (
	entryLen = 4 // of a page number
	// maxPages is how many pages of one request are looked at. Linux sends at most 256.
	maxPages = 1024
)

// numbers reads the page numbers of the chain at hand; those over maxPages are left out,
// and so is a part of one at the end.
func (a *activation) numbers(p *pages) []byte {
	n := p.chain.Read(0, p.buf[:])
	if rest := p.chain.ReadableLen() - uint64(n); rest > 0 {
		a.counters.ignored.Add(rest / entryLen)
	}
	return p.buf[:n-n%entryLen]
}

// takeIn gives the pages that the guest puts into the balloon to the host.
func (a *activation) takeIn(p *pages) error {
	var r run
	for b := a.numbers(p); len(b) > 0; b = b[entryLen:] {
		n := uint64(binary.LittleEndian.Uint32(b))
		if r.extend(n) {
			continue
		}
		a.discard(r)
		r = run{n, n + 1}
	}
	a.discard(r)
	return nil
}

// run is the pages from first to before end.
type run struct{ first, end uint64 }

// extend adds page n if it is next to the run.
func (r *run) extend(n uint64) bool {
	switch {
	case r.first == r.end:
		return false
	case n == r.end:
		r.end++
	case n+1 == r.first: // Linux takes pages from the top of its free memory downwards
		r.first--
	default:
		return false
	}
	return true
}

// discard gives a run to the host, or what of it is RAM.
func (a *activation) discard(r run) {
	n := r.end - r.first
	if n == 0 {
		return
	}
	s, err := a.Memory.Slice(r.first<<pageShift, n<<pageShift)
	if err == nil && a.Memory.DiscardSlice(s) == nil {
		a.counters.inflated.Add(n << pageShift)
		return
	}
	if n == 1 {
		a.counters.ignored.Add(1)
		return
	}
	// It leaves RAM somewhere.
	for page := r.first; page < r.end; page++ {
		a.discard(run{page, page + 1})
	}
}

// giveOut has nothing to do: the host gives the pages that leave the balloon when they
// are touched.
func (a *activation) giveOut(p *pages) error {
	a.counters.deflated.Add(uint64(len(a.numbers(p))) / entryLen << pageShift)
	return nil
}

// release gives the host pages that are free and stay the guest's. Their content is of no
// account.
func (a *activation) release(p *pages) error {
	for _, s := range p.chain.Writable {
		if len(s) < memory.PageSize {
			a.counters.ignored.Add(1)
			continue
		}
		if err := a.Memory.DiscardSlice(s); err != nil {
			return err
		}
		a.counters.reported.Add(uint64(len(s)))
	}
	return nil
}
