package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

var magic = []byte("GGUF")

// checkMagic reads the first four bytes. The error for another kind of file names that
// kind, since a wrong file is the most common mistake.
func checkMagic(s *stream) error {
	if s.size < uint64(len(magic)) {
		return foreignError{fmt.Errorf("the file has only %d bytes: download it again", s.size)}
	}
	// A read error of Peek is returned by the reads below.
	start, _ := s.r.Peek(int(min(s.size, 64)))
	if len(start) < len(magic) || bytes.HasPrefix(start, magic) {
		s.skip(uint64(len(magic)))
		return s.err
	}
	return foreignError{describeForeign(start, s.size)}
}

// ErrNotGGUF is the error, for errors.Is, of a file that is not a GGUF file. A damaged GGUF
// file has another error.
var ErrNotGGUF = errors.New("not a GGUF file")

// foreignError describes such a file.
type foreignError struct{ error }

func (foreignError) Is(target error) bool { return target == ErrNotGGUF }

// describeForeign returns an error that names the kind of a file, by its first bytes.
func describeForeign(start []byte, size uint64) error {
	const need = "llama-server needs a GGUF file"
	lower := bytes.ToLower(start)
	switch {
	case isOldMagic(start):
		return errors.New("this is a model in a format from before GGUF (2023), which llama-server no longer reads: download the model as GGUF")
	case isSafetensors(start, size):
		return errors.New("this is a safetensors file, " + need + ": download the model as GGUF, or convert it with llama.cpp's convert_hf_to_gguf.py")
	case bytes.HasPrefix(start, []byte("PK\x03\x04")):
		return errors.New("this is a zip archive or a PyTorch checkpoint, " + need + ": download the model as GGUF")
	case bytes.HasPrefix(start, []byte("version https://git-lfs")):
		return errors.New("this is a Git LFS pointer, not the model: run `git lfs pull`, or download the file")
	case bytes.HasPrefix(lower, []byte("<!doctype")) || bytes.HasPrefix(lower, []byte("<html")):
		return errors.New("this is a web page and not a model: the download saved an error or login page; repeat it")
	case len(bytes.Trim(start, "\x00")) == 0:
		return errors.New("the file starts with zeroes: the download is not complete; repeat it")
	case isText(start):
		return fmt.Errorf("this is a text file (it starts with %q), %s", start[:min(len(start), 20)], need)
	}
	return fmt.Errorf("this is not a GGUF file (it starts with %q): check the path, or download the file again", start[:4])
}

// isOldMagic reports the four formats of ggml from before GGUF: ggml, ggmf and ggjt for
// models, ggla for LoRA adapters, each stored as a little-endian number.
func isOldMagic(start []byte) bool {
	switch string(start[:4]) {
	case "lmgg", "fmgg", "tjgg", "algg":
		return true
	}
	return false
}

// isSafetensors reports whether a file starts with the length of a JSON header.
func isSafetensors(start []byte, size uint64) bool {
	return len(start) > 9 && start[8] == '{' && binary.LittleEndian.Uint64(start) <= size
}

func isText(start []byte) bool {
	for len(start) > 0 {
		r, n := utf8.DecodeRune(start)
		if r == utf8.RuneError && len(start) >= utf8.UTFMax { // not a character that is cut off at the end
			return false
		}
		if !unicode.IsPrint(r) && !unicode.IsSpace(r) && r != utf8.RuneError && r != '\ufeff' {
			return false
		}
		start = start[n:]
	}
	return true
}

// checkVersion accepts versions 2 and 3. Version 3 also allows big-endian files, which only
// the byte order of the version shows.
func checkVersion(version uint32) error {
	switch {
	case version == 2 || version == 3:
		return nil
	case version == 1:
		return errors.New("this is a GGUF file of version 1, which llama-server no longer reads: download a newer one")
	case version != 0 && version&0xffff == 0:
		return errors.New("this is a GGUF file for big-endian machines: download the little-endian one")
	case version > 0xffff:
		return damaged("its version is %d", version)
	case version == 0:
		return damaged("its version is 0")
	}
	return fmt.Errorf("this is a GGUF file of version %d; llmsup supports 2 and 3: update llmsup", version)
}
