package sysmon

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRelax(t *testing.T) {
	err := Relax(3 * time.Millisecond)
	if errors.Is(err, os.ErrPermission) {
		assert.NotZero(t, os.Geteuid(), "root may")
		return
	}
	require.NoError(t, err)
	tasks, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	relaxed := 0
	for _, task := range tasks {
		b, err := os.ReadFile("/proc/" + task.Name() + "/timerslack_ns")
		if err == nil && strings.TrimSpace(string(b)) == "3000000" {
			relaxed++
		}
	}
	assert.Positive(t, relaxed, "the monitor, and whatever it has started since")
	assert.Less(t, relaxed, len(tasks), "not all")
}
