package wire

import (
	"encoding/binary"
	"math/bits"
)

// Nearly all of a large body is in its strings, so that the time which a body
// takes is the time that they take: text is looked at 32 bytes at a time.
const (
	ones = 0x0101010101010101
	tops = 0x80 * ones // the top bit of each byte
	// quoteOrControl is below which a byte is a quote or a control character once it
	// is xored with 2: that brings the quote (0x22) next to the control characters,
	// and nothing else there.
	quoteOrControl = '"' ^ 2 + 1
)

// special returns a word that has the top bit of each of eight bytes that is a quote,
// a backslash or a control character, and no other bit. Each of its sums has that bit
// where the lower seven of a byte are not below a bound, and carries into no other
// byte (Bit Twiddling Hacks, "Determine if a word has a byte less than n").
func special(x uint64) uint64 {
	low := x &^ tops
	plain := low ^ ones*2 + ones*(0x80-quoteOrControl)
	notBackslash := low ^ ones*'\\' + ones*0x7f
	return tops &^ (plain&notBackslash | x)
}

// gather moves the top bits of eight bytes, which are all that is set, into the lowest
// eight bits, in order.
func gather(x uint64) uint64 { return x >> 7 * 0x0102040810204080 >> 56 }

// rest passes over what is left of a string after its first quote, and returns
// whether that is well formed.
//
// It goes on by whole blocks, whatever it finds in them: a place that depended on the
// last escape would make the processor wait for each.
func (s *scanner) rest() bool {
	text, at := s.text, s.at
	escapedFirst := uint64(0) // 1 if the last block ended with a backslash: it escapes this one's first byte
	for ; len(text)-at > 32; at += 32 {
		b := text[at : at+33] // with the byte that a backslash at the end escapes
		x0, x1 := special(binary.LittleEndian.Uint64(b)), special(binary.LittleEndian.Uint64(b[8:]))
		x2, x3 := special(binary.LittleEndian.Uint64(b[16:])), special(binary.LittleEndian.Uint64(b[24:]))
		if x0|x1|x2|x3 == 0 {
			escapedFirst = 0
			continue
		}
		found := (gather(x0) | gather(x1)<<8 | gather(x2)<<16 | gather(x3)<<24) &^ escapedFirst // a bit for each byte
		escapedFirst = 0
		for found != 0 {
			i := bits.TrailingZeros64(found) & 31
			if b[i] != '\\' {
				s.at = at + i + 1
				return b[i] == '"'
			}
			if !escaped[b[i+1]] && !unicodeEscape(text[at+i+1:]) {
				return false
			}
			found &= ^uint64(3) << i // neither the backslash nor what it escapes; the digits of a \u are plain text
			escapedFirst = 2 << i >> 32
		}
	}
	for at += int(escapedFirst); at < len(text); at++ {
		switch c := text[at]; {
		case c == '"':
			s.at = at + 1
			return true
		case c < ' ':
			return false
		case c == '\\':
			if at++; at == len(text) || !escaped[text[at]] && !unicodeEscape(text[at:]) {
				return false
			}
		}
	}
	return false
}

// escaped are the characters that may follow a backslash, but for u.
var escaped = [256]bool{'"': true, '\\': true, '/': true, 'b': true, 'f': true, 'n': true, 'r': true, 't': true}

// unicodeEscape says whether a text begins with the u of an escape and its four
// digits.
func unicodeEscape(s []byte) bool {
	return len(s) >= 5 && s[0] == 'u' && hex(s[1]) && hex(s[2]) && hex(s[3]) && hex(s[4])
}

func hex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }
