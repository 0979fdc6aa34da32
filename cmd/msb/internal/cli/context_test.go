package cli

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestContext(t *testing.T) {
	newHome(t)
	assert.Equal(t, "FIELD      VALUE\nBackend    local\nSource     default\n", succeed(t, "context").out)
	t.Setenv("MSB_BACKEND", "local")
	assert.Equal(t, "{\n  \"kind\": \"local\",\n  \"source\": \"MSB_BACKEND\"\n}\n", succeed(t, "ctx", "--format", "json").out)
	t.Setenv("MSB_BACKEND", "moon")
	assert.Equal(t, result{1, "", "error: invalid config: MSB_BACKEND must be 'local' or 'cloud', got \"moon\"\n"}, run("context"))
	assert.Equal(t, 1, run("ls").code)
}
