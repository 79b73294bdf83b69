package wire

import (
	"encoding/binary"
	"math/bits"
)

// Nearly all of a large body is in its strings, so their time is the time of the body:
// skipString tests 32 bytes at a time.
const (
	ones = 0x0101010101010101
	tops = 0x80 * ones // the top bit of each byte
	// A byte XOR 2 is below quoteOrControl if it is a quote or a control character: XOR 2
	// moves the quote (0x22) next to the control characters, and no other byte.
	quoteOrControl = '"' ^ 2 + 1
)

// specialBytes returns a word with the top bit set of each byte that is a quote, a
// backslash or a control character, and no other bit. Each sum below sets that bit if the
// lower seven bits of a byte are not below a bound, and carries into no other byte (Bit
// Twiddling Hacks, "Determine if a word has a byte less than n").
func specialBytes(x uint64) uint64 {
	low := x &^ tops
	plain := low ^ ones*2 + ones*(0x80-quoteOrControl)
	notBackslash := low ^ ones*'\\' + ones*0x7f
	return tops &^ (plain&notBackslash | x)
}

// packTopBits moves the top bits of eight bytes into the lowest eight bits, in order. No
// other bit may be set.
func packTopBits(x uint64) uint64 { return x >> 7 * 0x0102040810204080 >> 56 }

// skipString skips the rest of a string after its first quote, and returns whether it is
// well formed.
//
// It advances by whole blocks, whatever is in them: if the next position depended on the
// last escape, the processor would have to wait for each.
func (s *scanner) skipString() bool {
	text, at := s.text, s.at
	escapedFirst := uint64(0) // 1 if the last block ended with a backslash, which escapes this one's first byte
	for ; len(text)-at > 32; at += 32 {
		b := text[at : at+33] // one more byte: a backslash at the end escapes it
		x0, x1 := specialBytes(binary.LittleEndian.Uint64(b)), specialBytes(binary.LittleEndian.Uint64(b[8:]))
		x2, x3 := specialBytes(binary.LittleEndian.Uint64(b[16:])), specialBytes(binary.LittleEndian.Uint64(b[24:]))
		if x0|x1|x2|x3 == 0 {
			escapedFirst = 0
			continue
		}
		found := (packTopBits(x0) | packTopBits(x1)<<8 | packTopBits(x2)<<16 | packTopBits(x3)<<24) &^ escapedFirst // a bit for each byte
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
			found &= ^uint64(3) << i // clear the backslash and the byte after it; the digits of a \u are plain
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

// escaped are the characters that may follow a backslash, except u.
var escaped = [256]bool{'"': true, '\\': true, '/': true, 'b': true, 'f': true, 'n': true, 'r': true, 't': true}

// unicodeEscape returns whether a text begins with u and four hexadecimal digits.
func unicodeEscape(s []byte) bool {
	return len(s) >= 5 && s[0] == 'u' && hex(s[1]) && hex(s[2]) && hex(s[3]) && hex(s[4])
}

func hex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }
