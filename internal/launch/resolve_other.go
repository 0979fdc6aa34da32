//go:build !linux

package launch

func selfPath(path string) string { return path }
