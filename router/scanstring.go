package router

import (
	"encoding/binary"
	"math/bits"
)

// Nearly all of a large body is in its strings, so that the time which a body
// takes is the time that they take: text is passed over 16 bytes at a time.

const (
	ones = 0x0101010101010101
	tops = 0x80 * ones // the top bit of each byte

	// quoteOrControl is below which a byte is a quote or a control character once it
	// is xored with 2: that brings the quote (0x22) next to the control characters,
	// and nothing else there.
	quoteOrControl = '"' ^ 2 + 1
)

// special returns a word whose lowest bit that is set is the top bit of the first
// quote, backslash or control character of eight bytes; 0 where they have none.
// Each of its terms sets that bit where a byte is below a bound, or zero after its
// xor (Bit Twiddling Hacks, "Determine if a word has a byte less than n"). Higher
// bits may be wrong.
func special(x uint64) uint64 {
	low, backslash := x^ones*2, x^ones*'\\'
	return ((low-ones*quoteOrControl)&^low | (backslash-ones)&^backslash) & tops
}

// rest passes over what is left of a string after its first quote, and returns
// whether that is well formed.
func (s *scanner) rest() bool {
	text, at := s.text, s.at
	for {
		for len(text)-at >= 16 {
			b := text[at : at+16]
			if x := special(binary.LittleEndian.Uint64(b)); x != 0 {
				at += bits.TrailingZeros64(x) / 8
				break
			}
			if x := special(binary.LittleEndian.Uint64(b[8:])); x != 0 {
				at += 8 + bits.TrailingZeros64(x)/8
				break
			}
			at += 16
		}
		if at+1 < len(text) && text[at] == '\\' && escaped[text[at+1]] { // by far the most
			at += 2
			continue
		}
		switch {
		case at >= len(text) || text[at] < ' ':
			return false
		case text[at] == '"':
			s.at = at + 1
			return true
		case text[at] != '\\': // near the text's end
			at++
		case unicodeEscape(text[at+1:]):
			at += 2 // its digits are plain text to whoever passes over them
		default:
			return false
		}
	}
}

// escaped are the characters that may follow a backslash, but for u.
var escaped = [256]bool{'"': true, '\\': true, '/': true, 'b': true, 'f': true, 'n': true, 'r': true, 't': true}

// unicodeEscape says whether a text begins with the u of an escape and its four
// digits.
func unicodeEscape(s []byte) bool {
	return len(s) >= 5 && s[0] == 'u' && hex(s[1]) && hex(s[2]) && hex(s[3]) && hex(s[4])
}

func hex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }
