package flagtype

import (
	"errors"
	"strings"
)

// Secret parses ENV@HOST[,HOST...]. No error has a part of s in it: it may be a value.
func Secret(s string) (env string, hosts []string, err error) {
	env, list, ok := cutLast(s, "@")
	switch {
	case strings.Contains(env, "="):
		return "", nil, errors.New("inline secret values are not supported: a value on the command line can be seen by other users: set the environment variable and write ENV@HOST")
	case !ok || env == "" || strings.Contains(env, "@"):
		return "", nil, errors.New("secret must be in format ENV@HOST[,HOST...]")
	}
	for h := range strings.SplitSeq(list, ",") {
		if h = strings.TrimSpace(h); h == "" {
			return "", nil, errors.New("secret must be in format ENV@HOST[,HOST...]: a host is empty")
		}
		hosts = append(hosts, h)
	}
	return env, hosts, nil
}
