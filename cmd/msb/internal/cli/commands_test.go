package cli

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestEntriesHaveTheirNames(t *testing.T) {
	t.Parallel()
	a := &app{}
	for _, s := range a.sections() {
		for _, e := range s.entries {
			c := e.build()
			assert.Equal(t, e.name, c.Name())
			var names []string
			for _, one := range only(a.sections(), append([]string{e.name}, "--help")) {
				assert.NotEmpty(t, one.title)
				for _, o := range one.entries {
					names = append(names, o.name)
				}
			}
			assert.Equal(t, []string{e.name}, names)
		}
	}
}

func TestAllEntries(t *testing.T) {
	t.Parallel()
	a := &app{}
	want := len((a.root(nil)).Commands())
	for _, args := range [][]string{{"completion", "bash"}, {"__complete", "cre"}, {"rm"}, {"help", "run"}, {"--debug", "run"}, {"-h"}, {"nonsense"}, {""}} {
		assert.Len(t, a.root(args).Commands(), want, args)
	}
	assert.Less(t, len(a.root([]string{"create"}).Commands()), want)
}
