package placement

import (
	"cmp"
	"maps"
	"slices"
)

// Policies, as a launch configuration spells them.
const (
	Inherit = "inherit" // wherever the runtime may run
	Auto    = "auto"    // all on one NUMA node, the one with the most room
	Spread  = "spread"  // each on a core of its own
	Compact = "compact" // all on as few cores of one node as they need
)

// CPU is one of the host's logical processors.
type CPU struct {
	ID   int // as the host numbers it
	Core int // the lowest ID of those that share its core
	Node int // its NUMA node, 0 where the host has none
}

// Plan says where the virtual processors may run.
type Plan struct {
	// Sets are IDs of the host's processors for each virtual one; nil: anywhere.
	Sets [][]int
	// Use is how many virtual processors each of the host's, by its ID, gets by that: one
	// that may run on k counts for 1/k of each.
	Use map[int]float64
}

// choose places n virtual processors on those of the host, of which others use some. It
// places none where there are fewer: nothing is gained then.
func choose(policy string, n int, host []CPU, used map[int]float64) Plan {
	if n < 1 || n > len(host) {
		return Plan{}
	}
	switch policy {
	case Auto:
		return shared(n, slices.Concat(roomiest(n, host, used)...))
	case Compact:
		return shared(n, slices.Concat(roomiest(n, host, used)...)[:n])
	case Spread:
		return spread(n, cores(host), used)
	}
	return Plan{}
}

// shared lets n virtual processors run on any of ids.
func shared(n int, ids []int) Plan {
	slices.Sort(ids)
	p := Plan{Sets: slices.Repeat([][]int{ids}, n), Use: make(map[int]float64)}
	for _, id := range ids {
		p.Use[id] = float64(n) / float64(len(ids))
	}
	return p
}

// spread gives each of n virtual processors the core that is used least by then.
func spread(n int, all [][]int, used map[int]float64) Plan {
	p := Plan{Use: make(map[int]float64)}
	load := func(core []int) float64 { return average(core, used) + average(core, p.Use) }
	for range n {
		least := slices.MinFunc(all, func(a, b []int) int { return cmp.Or(cmp.Compare(load(a), load(b)), cmp.Compare(a[0], b[0])) })
		p.Sets = append(p.Sets, least)
		for _, id := range least {
			p.Use[id] += 1 / float64(len(least))
		}
	}
	return p
}

// roomiest is the cores of the node that has n processors and uses them least, the least
// used cores first; where no node has n, of the whole host.
func roomiest(n int, host []CPU, used map[int]float64) [][]int {
	nodes := make(map[int][]CPU)
	for _, c := range host {
		nodes[c.Node] = append(nodes[c.Node], c)
	}
	best, least := host, -1.0
	for _, node := range slices.Sorted(maps.Keys(nodes)) {
		if load := average(ids(nodes[node]), used); len(nodes[node]) >= n && (least < 0 || load < least) {
			best, least = nodes[node], load
		}
	}
	all := cores(best)
	slices.SortStableFunc(all, func(a, b []int) int { return cmp.Compare(average(a, used), average(b, used)) })
	return all
}

// cores are the IDs of those that share a core, in order.
func cores(cpus []CPU) (all [][]int) {
	by := make(map[int][]int)
	for _, c := range cpus {
		by[c.Core] = append(by[c.Core], c.ID)
	}
	for _, core := range slices.Sorted(maps.Keys(by)) {
		all = append(all, slices.Sorted(slices.Values(by[core])))
	}
	return all
}

func ids(cpus []CPU) []int {
	list := make([]int, len(cpus))
	for i, c := range cpus {
		list[i] = c.ID
	}
	return list
}

// average is how much is used of each of ids.
func average(ids []int, used map[int]float64) float64 {
	var sum float64
	for _, id := range ids {
		sum += used[id]
	}
	return sum / float64(len(ids))
}
