package pick

import "github.com/cespare/xxhash/v2"

// mix spreads the bits of a sum of hashes (the finalizer of MurmurHash3). All boxes have to
// use one hash, those of other versions included.
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// home returns the index of the home box of a call's conversation; -1 = it has none. It is
// the box with the highest hash of its name and the conversation (rendezvous hashing): a box that
// leaves moves its own conversations only.
func home(boxes []Box, c *Call) int {
	best, highest := -1, uint64(0)
	if c.Conversation == 0 {
		return best
	}
	conversation := mix(c.Conversation + xxhash.Sum64String(c.Model))
	for i := range boxes {
		if h := mix(conversation + xxhash.Sum64String(boxes[i].Name)); best < 0 || h > highest {
			best, highest = i, h
		}
	}
	return best
}
