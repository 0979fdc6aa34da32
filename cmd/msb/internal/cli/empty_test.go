package cli

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestEmptyListings(t *testing.T) {
	newHome(t)
	for line, want := range map[string]result{
		"ls":                     {0, "", "No sandboxes found.\n"},
		"list --running":         {0, "", "No sandboxes found.\n"},
		"ls -q":                  {0, "", ""},
		"ls --format json":       {0, "[]\n", ""},
		"ps":                     {0, "", "No running sandboxes.\n"},
		"ps --format json":       {0, "[]\n", ""},
		"image ls":               {0, "", "No images found.\n"},
		"images":                 {0, "", "No images found.\n"},
		"image ls --format json": {0, "[]\n", ""},
		"image ls -q":            {0, "", ""},
		"volume ls":              {0, "", "No volumes found.\n"},
		"vols":                   {0, "", "No volumes found.\n"},
		"volumes --format json":  {0, "[]\n", ""},
		"vol list -q":            {0, "", ""},
		"stop --label a=b":       {0, "", "warn: no sandboxes matched the given labels\n"},
		"rm --label a=b -q":      {0, "", ""},
	} {
		assert.Equal(t, want, run(strings.Fields(line)...), line)
	}
}
