package flagtype

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bytes parses N, NK, NM or NG (any case), in binary multiples; a bare number is bytes.
func Bytes(s string) (uint64, error) {
	num, shift := s, 0
	if n := len(s); n > 0 {
		if i := strings.IndexByte("kmg", s[n-1]|0x20); i >= 0 {
			num, shift = s[:n-1], 10*(i+1)
		}
	}
	n, err := Count(num)
	if err != nil {
		return 0, fmt.Errorf("invalid size %q: use a number with K, M or G, such as 64K", s)
	}
	if n > math.MaxUint64>>shift {
		return 0, fmt.Errorf("size %q is too large", s)
	}
	return n << shift, nil
}

// Count parses a number.
func Count(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return n, nil
}

// Rate parses VALUE[/DURATION] with a duration such as 100ms or 2m; it is a second by
// default.
func Rate(s string, value func(string) (uint64, error)) (uint64, time.Duration, error) {
	left, right, timed := strings.Cut(s, "/")
	n, err := value(left)
	if err != nil {
		return 0, 0, err
	}
	every := time.Second
	if timed {
		if every, err = SubSeconds(right); err != nil {
			return 0, 0, err
		}
	}
	if n == 0 || every <= 0 {
		return 0, 0, fmt.Errorf("a rate must be greater than 0")
	}
	return n, every, nil
}
