package ext4

import "math/bits"

// nameHash is the half MD4 hash of a name with unsigned characters, by which an
// indexed directory sorts. Its lowest bit is free: the index uses it.
func nameHash(name string, seed *[4]uint32) uint32 {
	state := [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	if *seed != [4]uint32{} {
		state = *seed
	}
	for len(name) > 0 {
		in := hashWords(name)
		halfMD4(&state, &in)
		name = name[min(len(name), 32):]
	}
	hash := state[1] &^ 1
	if hash == 0xFFFFFFFE { // stands for the end of a directory
		hash = 0xFFFFFFFC
	}
	return hash
}

// hashWords packs the first 32 bytes of a name; what is missing is filled with its
// length.
func hashWords(name string) (words [8]uint32) {
	pad := uint32(len(name)) | uint32(len(name))<<8
	pad |= pad << 16
	for i := range words {
		word := pad
		for j := i * 4; j < min(i*4+4, len(name)); j++ {
			word = uint32(name[j]) + word<<8
		}
		words[i] = word
	}
	return words
}

func halfMD4(state *[4]uint32, in *[8]uint32) {
	rounds := [3]struct {
		f     func(x, y, z uint32) uint32
		add   uint32
		order [8]int
		shift [4]int
	}{
		{func(x, y, z uint32) uint32 { return z ^ x&(y^z) }, 0, [8]int{0, 1, 2, 3, 4, 5, 6, 7}, [4]int{3, 7, 11, 19}},
		{func(x, y, z uint32) uint32 { return x&y + (x^y)&z }, 0x5A827999, [8]int{1, 3, 5, 7, 0, 2, 4, 6}, [4]int{3, 5, 9, 13}},
		{func(x, y, z uint32) uint32 { return x ^ y ^ z }, 0x6ED9EBA1, [8]int{3, 7, 2, 6, 1, 5, 0, 4}, [4]int{3, 9, 11, 15}},
	}
	a, b, c, d := state[0], state[1], state[2], state[3]
	for i := range rounds {
		r := &rounds[i]
		for step, word := range r.order {
			t := bits.RotateLeft32(a+r.f(b, c, d)+in[word]+r.add, r.shift[step%4])
			a, b, c, d = d, t, b, c
		}
	}
	state[0] += a
	state[1] += b
	state[2] += c
	state[3] += d
}
