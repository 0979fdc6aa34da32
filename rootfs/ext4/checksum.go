package ext4

import "hash/crc32"

// checksum continues a CRC-32C over p without the customary inversions, as ext4 and
// jbd2 count it.
func checksum(seed uint32, p []byte) uint32 {
	return ^crc32.Update(^seed, crc32.MakeTable(crc32.Castagnoli), p)
}

func checksum32(seed, v uint32) uint32 {
	var p [4]byte
	le.PutUint32(p[:], v)
	return checksum(seed, p[:])
}

// inodeSeed is what checksums of an inode, its directory and extent blocks begin with.
func inodeSeed(seed, number, generation uint32) uint32 {
	return checksum32(checksum32(seed, number), generation)
}
