//go:build !linux

package launch

import "os"

// diskHolders finds nobody where the system does not tell.
func diskHolders(string) []DiskHolder { return nil }

// InheritedDisk is nil where the system does not tell.
func InheritedDisk(DiskUse) *os.File { return nil }
