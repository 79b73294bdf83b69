package wire

// Member is a member of the outermost object of a JSON text: its key is
// text[KeyFrom:KeyTo], its value text[From:To], quotes included.
type Member struct{ KeyFrom, KeyTo, From, To int }

// Scan reads a JSON text (RFC 8259) once, and calls each, which may be nil, with the
// members of its outermost object. It returns whether encoding/json accepts the text. A
// body can have megabytes of prompt and images, nearly all of it in strings: Scan skips
// those 32 bytes at a time, which makes it about ten times faster than a general parser.
func Scan(text []byte, each func(Member)) bool {
	s := scanner{text: text}
	open := make([]byte, 0, 64) // the open brackets, outermost first; this size stays on the stack
	var f Member
	for {
		s.skipSpace()
		if len(open) == 1 {
			f.From = s.at
		}
		bracket := s.peek()
		if len(open) == maxNesting && (bracket == '{' || bracket == '[') {
			return false
		}
		nested, ok := s.skipValue()
		if !ok {
			return false
		}
		if nested {
			open = append(open, bracket)
		}
		// A value has ended, and with it perhaps the objects and arrays around it.
		for !nested {
			if len(open) == 0 {
				s.skipSpace()
				return s.at == len(text)
			}
			if len(open) == 1 && open[0] == '{' && each != nil {
				f.To = s.at
				each(f)
			}
			s.skipSpace()
			if s.accept(',') {
				break
			}
			if !s.accept(closing(open[len(open)-1])) {
				return false
			}
			open = open[:len(open)-1]
		}
		if open[len(open)-1] == '{' {
			s.skipSpace()
			from := s.at
			if !s.accept('"') || !s.skipString() {
				return false
			}
			if len(open) == 1 {
				f.KeyFrom, f.KeyTo = from, s.at
			}
			if s.skipSpace(); !s.accept(':') {
				return false
			}
		}
	}
}

// maxNesting is how deeply arrays and objects may be nested: encoding/json's limit. A
// deeper text could exhaust a backend's stack.
const maxNesting = 10_000

// scanner is a position in a JSON text.
type scanner struct {
	text []byte
	at   int
}

func closing(bracket byte) byte { return bracket + 2 } // in ASCII: [ ] and { }

func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0 // not in any JSON text
}

func (s *scanner) accept(c byte) bool {
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *scanner) skipSpace() {
	for s.at < len(s.text) && (s.text[s.at] == ' ' || s.text[s.at] == '\n' || s.text[s.at] == '\t' || s.text[s.at] == '\r') {
		s.at++
	}
}

// skipValue skips a scalar or an empty object or array. Of another object or array it
// skips the opening bracket, and returns nested.
func (s *scanner) skipValue() (nested, ok bool) {
	switch c := s.peek(); c {
	case '{', '[':
		s.at++
		s.skipSpace()
		if s.accept(closing(c)) {
			return false, true
		}
		return true, true
	case '"':
		s.at++
		return false, s.skipString()
	case 't':
		return false, s.literal("true")
	case 'f':
		return false, s.literal("false")
	case 'n':
		return false, s.literal("null")
	}
	return false, s.skipNumber()
}

func (s *scanner) literal(w string) bool {
	from := s.at
	s.at += len(w)
	return s.at <= len(s.text) && string(s.text[from:s.at]) == w
}

func (s *scanner) skipNumber() bool {
	s.accept('-')
	if !s.accept('0') && !s.skipDigits() {
		return false
	}
	if s.accept('.') && !s.skipDigits() {
		return false
	}
	if s.accept('e') || s.accept('E') {
		if !s.accept('+') {
			s.accept('-')
		}
		return s.skipDigits()
	}
	return true
}

func (s *scanner) skipDigits() bool {
	from := s.at
	for s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at > from
}
