package gguf

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// fields looks entries up in a file's metadata, and keeps the first error.
type fields struct {
	metadata map[string]value
	err      error
}

func (f *fields) damaged(format string, args ...any) {
	if f.err == nil {
		f.err = damaged(format, args...)
	}
}

// text returns a string entry, "" if absent. Characters that are not printable are removed,
// since the text is shown in logs and on terminals.
func (f *fields) text(key string) string {
	v, ok := f.metadata[key]
	if !ok {
		return ""
	}
	if v.kind != typeString || v.array {
		f.damaged("%s is not a text", key)
		return ""
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, v.text)
}

// number returns a whole number, or absent if the entry does not exist.
func (f *fields) number(key string, absent uint32) uint32 {
	v, ok := f.metadata[key]
	if !ok {
		return absent
	}
	if v.array || len(v.numbers) != 1 {
		f.damaged("%s is not a whole number", key)
		return absent
	}
	return f.uint32Of(key, v.numbers[0])
}

func (f *fields) uint32Of(key string, n uint64) uint32 {
	if n > math.MaxUint32 {
		f.damaged("%s is %d", key, n)
		return 0
	}
	return uint32(n)
}

// optional returns a whole number without which a model can be used, or absent if the entry
// does not exist or has another type. A boolean is 0 or 1.
func (f *fields) optional(key string, absent uint32) uint32 {
	v, ok := f.metadata[key]
	if !ok || v.array || len(v.numbers) != 1 || v.numbers[0] > math.MaxUint32 {
		return absent
	}
	return uint32(v.numbers[0])
}

// optionalFlags returns a list of at most so many flags that only an estimate uses, or nil.
func (f *fields) optionalFlags(key string, most uint32) []bool {
	v, ok := f.metadata[key]
	if !ok || !v.array || len(v.numbers) > int(most) {
		return nil
	}
	var yes []bool
	for _, n := range v.numbers {
		yes = append(yes, n != 0)
	}
	return yes
}

// required returns a number from 1 to most that each model must have.
func (f *fields) required(key string, most uint32) uint32 {
	if _, ok := f.metadata[key]; !ok && f.err == nil {
		f.err = fmt.Errorf("the header lacks %s, without which llama-server cannot load the model: download another GGUF of it", key)
	}
	n := f.number(key, 0)
	if n == 0 || n > most {
		f.damaged("%s is %d", key, n)
	}
	return n
}

// perLayer returns a number for each layer. The file has an array, or one number for all
// layers; absent if it has neither.
func (f *fields) perLayer(key string, absent []uint32) []uint32 {
	v, ok := f.metadata[key]
	if !ok {
		return slices.Clone(absent)
	}
	if !v.array {
		return slices.Repeat([]uint32{f.number(key, 0)}, len(absent))
	}
	if !v.kind.whole() || v.count != uint64(len(absent)) {
		f.damaged("%s has not one whole number for each of the %d layers", key, len(absent))
		return nil
	}
	numbers := make([]uint32, 0, len(absent))
	for _, n := range v.numbers {
		numbers = append(numbers, f.uint32Of(key, n))
	}
	return numbers
}

// count returns the length of an array, 0 if absent.
func (f *fields) count(key string) uint32 {
	v, ok := f.metadata[key]
	if ok && !v.array {
		f.damaged("%s is not an array", key)
	}
	if !v.array {
		return 0
	}
	return f.uint32Of(key, v.count)
}
