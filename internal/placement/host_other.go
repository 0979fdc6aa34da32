//go:build !linux

package placement

import "errors"

func host(string) ([]CPU, error) { return nil, errors.ErrUnsupported }
