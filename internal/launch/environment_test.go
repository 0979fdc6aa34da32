package launch

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestEnvironment(t *testing.T) {
	t.Setenv("GODEBUG", "")
	given := []string{"A=1", "GODEBUG=gctrace=1", "B=2"}
	for name, c := range map[string]struct {
		o    Options
		want []string
	}{
		"given":    {Options{Env: []string{"A=1"}}, []string{"A=1", "GODEBUG=disablethp=1"}},
		"settings": {Options{Env: given}, []string{"A=1", "GODEBUG=disablethp=1,gctrace=1", "B=2"}},
		"self":     {Options{Env: []string{"A=1"}, Binary: Binary{Self: true}}, []string{"A=1", SelfEnv + "=1", "GODEBUG=disablethp=1"}},
	} {
		assert.Equal(t, c.want, c.o.environment(), name)
	}
	assert.Equal(t, []string{"A=1", "GODEBUG=gctrace=1", "B=2"}, given, "it is the caller's")
	assert.Contains(t, (&Options{}).environment(), "GODEBUG=disablethp=1,", "that of this process")
}
