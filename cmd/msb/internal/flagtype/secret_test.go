package flagtype

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSecret(t *testing.T) {
	t.Parallel()
	env, hosts, err := Secret("KEY@api.example.com, *.example.org,*")
	require.NoError(t, err)
	assert.Equal(t, "KEY", env)
	assert.Equal(t, []string{"api.example.com", "*.example.org", "*"}, hosts)
	for _, bad := range []string{"", "KEY", "@h", "KEY@", "KEY@a,,b", "A@B@h", "KEY=s3same@h", "KEY=s3s@me@h", "KEY=s3same"} {
		_, _, err := Secret(bad)
		require.Error(t, err, bad)
		assert.NotContains(t, err.Error(), "s3")
	}
}
