//go:build !linux

package metrics

import (
	"errors"
	"fmt"
	"os"
)

const shmDir = ""

func errUnsupported() error {
	return fmt.Errorf("metrics registry: %w on this platform", errors.ErrUnsupported)
}

func openSegment(string, string) (*os.File, error) { return nil, errUnsupported() }

func createSegment(string, string, int64, func(words)) error { return errUnsupported() }

func mapSegment(*os.File, int64) (words, error) { return nil, errUnsupported() }

func unmapSegment(words) error { return nil }
