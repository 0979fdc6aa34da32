//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
)

// many values of a step have percentiles of their own.
const many = 100

// report gathers measurements by step and side.
type report struct {
	sides  [2]string
	steps  []string // in the order of their first measurement
	values map[string]map[string][]float64
	phases []string
	shares map[string][]float64 // of a boot, by phase
}

func newReport(a, b string) *report {
	return &report{sides: [2]string{a, b}, values: map[string]map[string][]float64{}, shares: map[string][]float64{}}
}

func (r *report) add(s *side, step string, value float64) {
	if r.values[step] == nil {
		r.steps = append(r.steps, step)
		r.values[step] = map[string][]float64{}
	}
	r.values[step][s.name] = append(r.values[step][s.name], value)
}

func (r *report) addPhases(phases []phase) {
	total := 0.0
	for _, p := range phases {
		total += p.took.Seconds()
	}
	for _, p := range phases {
		if r.shares[p.name] == nil {
			r.phases = append(r.phases, p.name)
		}
		r.shares[p.name] = append(r.shares[p.name], p.took.Seconds()/total)
	}
}

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%-58s %s\n", "STEP", r.sides[0]+" / "+r.sides[1])
	for _, step := range r.steps {
		a, b := r.values[step][r.sides[0]], r.values[step][r.sides[1]]
		if len(a) == 0 || len(b) == 0 {
			fmt.Fprintf(w, "%-58s one side only\n", step)
			continue
		}
		if len(a) < many && len(b) < many {
			fmt.Fprintf(w, "%-58s %.2f\n", step, median(a)/median(b))
			continue
		}
		for _, p := range []int{50, 99} {
			fmt.Fprintf(w, "%-58s %.2f\n", fmt.Sprintf("%s: p%d", step, p), percentile(a, p)/percentile(b, p))
		}
	}
	if len(r.phases) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%-58s %s\n", "PHASE OF OUR BOOT", "share")
	for _, p := range r.phases {
		fmt.Fprintf(w, "%-58s %.0f %%\n", p, 100*median(r.shares[p]))
	}
}

func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	if n == 0 {
		return 0
	}
	return (v[(n-1)/2] + v[n/2]) / 2
}

// percentile is the value that p per cent of all are less than.
func percentile(values []float64, p int) float64 {
	v := slices.Sorted(slices.Values(values))
	return v[len(v)*p/100]
}
