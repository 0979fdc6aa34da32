//go:build !linux

package launch

// diskHolders finds nobody where the system does not tell.
func diskHolders(string) []DiskHolder { return nil }

// DiskInherited is false where the system does not tell.
func DiskInherited(DiskUse) bool { return false }
