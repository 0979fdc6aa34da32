package flagtype

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// MiB parses N, NM or NG (any case) into MiB. A bare number is MiB; G may have decimals.
func MiB(s string) (uint32, error) {
	num, unit := s, "m"
	if n := len(s); n > 0 && strings.ContainsRune("mMgG", rune(s[n-1])) {
		num, unit = s[:n-1], strings.ToLower(s[n-1:])
	}
	if unit == "g" {
		f, err := strconv.ParseFloat(num, 64)
		if err != nil || strings.Trim(num, "0123456789.") != "" {
			return 0, fmt.Errorf("invalid size %q: use a number with M or G, such as 512M or 1.5G", s)
		}
		mib := math.Round(f * 1024)
		if mib > math.MaxUint32 {
			return 0, fmt.Errorf("size %q is too large", s)
		}
		return uint32(mib), nil
	}
	n, err := strconv.ParseUint(num, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("invalid size %q: use a number with M or G, such as 512M or 1.5G", s)
	}
	return uint32(n), nil
}

// Seconds parses N, Ns, Nm or Nh; a bare number is seconds.
func Seconds(s string) (time.Duration, error) {
	return duration(s, map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour})
}

// SubSeconds is Seconds with Nms too.
func SubSeconds(s string) (time.Duration, error) {
	return duration(s, map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour})
}

// MetricsInterval parses Nms, Ns, Nm or a bare number of seconds, each with decimals but
// Nms. Less than 100 ms becomes that; 0 is an error.
func MetricsInterval(s string) (time.Duration, error) {
	number, unit := s, time.Second
	for suffix, u := range map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "m": time.Minute} {
		if n, ok := strings.CutSuffix(s, suffix); ok && n != "" && (n[len(n)-1] == '.' || n[len(n)-1] >= '0' && n[len(n)-1] <= '9') {
			number, unit = n, u
		}
	}
	if unit == time.Millisecond && strings.Contains(number, ".") || strings.Trim(number, "0123456789.") != "" {
		return 0, fmt.Errorf("invalid interval %q: use 500ms, 2s or 1m", s)
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n <= 0 || n > float64(24*time.Hour/unit) {
		return 0, fmt.Errorf("invalid interval %q: use 500ms, 2s or 1m, at most a day", s)
	}
	return max(time.Duration(n*float64(unit)), 100*time.Millisecond), nil
}

func duration(s string, units map[string]time.Duration) (time.Duration, error) {
	i := len(s)
	for i > 0 && (s[i-1] < '0' || s[i-1] > '9') {
		i--
	}
	unit := time.Second
	if i < len(s) {
		u, ok := units[s[i:]]
		if !ok {
			return 0, fmt.Errorf("invalid digit found in string")
		}
		unit = u
	}
	n, err := strconv.ParseUint(s[:i], 10, 63)
	if err != nil {
		return 0, fmt.Errorf("invalid digit found in string")
	}
	if n > uint64(math.MaxInt64/int64(unit)) {
		return 0, fmt.Errorf("duration %q is too long", s)
	}
	return time.Duration(n) * unit, nil
}

// LogTime parses RFC 3339 or Ns, Nm, Nh, Nd before now.
func LogTime(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	d, err := duration(s, map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour})
	if err != nil || s == "" || s[len(s)-1] <= '9' {
		return time.Time{}, fmt.Errorf("could not parse time %q (expected RFC 3339 or `5m` etc.)", s)
	}
	return now.Add(-d), nil
}

// Env parses KEY=VALUE, or KEY, which takes the value from this process.
func Env(s string) (key, value string, err error) {
	key, value, ok := strings.Cut(s, "=")
	switch {
	case key == "":
		return "", "", fmt.Errorf("environment variable %q has no name", s)
	case ok:
		return key, value, nil
	}
	value, ok = os.LookupEnv(key)
	if !ok {
		return "", "", fmt.Errorf("environment variable '%s' not set", key)
	}
	return key, value, nil
}

// Label parses KEY=VALUE or KEY.
func Label(s string) (key, value string, err error) {
	key, value, _ = strings.Cut(s, "=")
	if key == "" {
		return "", "", fmt.Errorf("invalid config: label key must not be empty")
	}
	return key, value, nil
}

// Rlimit parses RESOURCE=SOFT[:HARD].
func Rlimit(s string) (resource string, soft, hard uint64, err error) {
	resource, limits, ok := strings.Cut(s, "=")
	if !ok || resource == "" {
		return "", 0, 0, fmt.Errorf("rlimit must be in format RESOURCE=LIMIT or RESOURCE=SOFT:HARD: %s", s)
	}
	first, second, both := strings.Cut(limits, ":")
	if soft, err = strconv.ParseUint(first, 10, 64); err != nil {
		return "", 0, 0, fmt.Errorf("invalid limit %q: %s is not a number", s, first)
	}
	if hard = soft; both {
		if hard, err = strconv.ParseUint(second, 10, 64); err != nil {
			return "", 0, 0, fmt.Errorf("invalid limit %q: %s is not a number", s, second)
		}
	}
	if soft > hard {
		return "", 0, 0, fmt.Errorf("soft limit cannot exceed hard limit: %s", s)
	}
	return strings.ToLower(resource), soft, hard, nil
}
