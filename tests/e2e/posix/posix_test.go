//go:build linux

package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMain makes the test binary the program itself where a check runs a copy of it.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == waitArg {
		wait(os.Args[2])
		return
	}
	os.Exit(m.Run())
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range checks() {
		assert.False(t, seen[c.name], c.name)
		seen[c.name] = true
		assert.Equal(t, c.script == "", c.run != nil, c.name)
	}
}

func TestPaths(t *testing.T) {
	s := script{dir: "/d"}
	assert.Equal(t, "/d/a/xxx.b", s.path("a/{3}.b"))
	assert.Len(t, s.path("{PATH}"), len("/d/")+4096)
	assert.Empty(t, s.path("{0}"))
	who, err := parseIdentity("1000:5,6,7")
	require.NoError(t, err)
	assert.Equal(t, identity{uid: 1000, gid: 5, groups: []uint32{6, 7}}, who)
	who, err = parseIdentity("1000")
	require.NoError(t, err)
	assert.Equal(t, identity{uid: 1000, gid: 1000}, who)
	_, err = parseIdentity("1000:x")
	assert.Error(t, err)
}
