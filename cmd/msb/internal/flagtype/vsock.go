package flagtype

import (
	"fmt"
	"strconv"
	"strings"
)

// Vsock parses PATH:PORT[/stream|/dgram].
func Vsock(s string) (path string, port uint32, dgram bool, err error) {
	path, rest, ok := cutLast(s, ":")
	if !ok || path == "" {
		return "", 0, false, fmt.Errorf("--vsock must use HOST_PATH:PORT[/stream|/dgram], got %q", s)
	}
	number, kind, _ := strings.Cut(rest, "/")
	if kind != "" && kind != "stream" && kind != "dgram" {
		return "", 0, false, fmt.Errorf("unknown socket type %q: use stream or dgram", kind)
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || n == 0 {
		return "", 0, false, fmt.Errorf("%q is no vsock port", number)
	}
	return path, uint32(n), kind == "dgram", nil
}
