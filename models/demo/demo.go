// Package demo writes the counting model: a small GGUF file that the real llama-server loads
// in 40 ms, and that answers any prompt with " 1 2 3 4 ...". `llmsup start --demo` runs it
// as a self-test without a download. Tests run it since its answers can be checked: a lost
// or doubled token shows in the numbers.
//
// It is a llama-architecture transformer that needs no training. Each number is
// one token, with a random vector as its embedding; the output row of a number is
// the embedding of the one before it; attention and feed-forward add nothing to
// the residual. So the most probable token after " 57" is " 58", by a margin that no
// sampler crosses. All other text shares one vector, after which " 1" follows. After the
// last number the model ends its answer.
package demo

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// Shape is a model's size. Only Context and Numbers change its answers; the other fields make
// it slower.
type Shape struct {
	Width   int // of the embedding, at least 64 and a multiple of 8: bytes and time grow with its square
	Blocks  int // of attention and feed-forward, 4 * (4*Width*Width + 3*Width*FFN) bytes each: bytes and time grow with it
	Heads   int // of attention: Width must be a multiple of twice their number
	FFN     int // width of the feed-forward layers, a multiple of 8: bytes and time grow with it
	Context int // tokens of the trained context: free here, but llama-server's KV cache grows with it
	Numbers int // the last number of an answer: 8*Width bytes each
}

var (
	// Small is about 2 MB and gives thousands of tokens a second on a CPU.
	Small = Shape{Width: 64, Blocks: 2, Heads: 4, FFN: 64, Context: 8192, Numbers: 3000}
	// Slow is about 215 MB and takes 20 to 100 ms a token on a small CPU, for tests of
	// queues, long prompts and kills in the middle of a stream.
	Slow = Shape{Width: 512, Blocks: 12, Heads: 8, FFN: 2048, Context: 8192, Numbers: 3000}
)

func (s Shape) validate() error {
	switch {
	case s.Width < 64 || s.Width%8 != 0:
		return fmt.Errorf("width %d: must be a multiple of 8 and at least 64", s.Width)
	case s.Heads < 1 || s.Width%(2*s.Heads) != 0:
		return fmt.Errorf("%d heads: the width, %d, must be a multiple of twice their number", s.Heads, s.Width)
	case s.FFN < 8 || s.FFN%8 != 0:
		return fmt.Errorf("feed-forward width %d: must be a multiple of 8", s.FFN)
	case s.Blocks < 1 || s.Context < 1 || s.Numbers < 1:
		return fmt.Errorf("%d blocks, %d tokens of context, %d numbers: must be at least 1", s.Blocks, s.Context, s.Numbers)
	}
	return nil
}

// Write writes the model of a shape as GGUF, version 3, with F32 weights. The bytes are the
// same on each machine.
func Write(w io.Writer, s Shape) error {
	if err := s.validate(); err != nil {
		return fmt.Errorf("write demo model: %w", err)
	}
	tensors := s.tensors()
	return writeFile(w, s.header(tensors), tensors)
}

// writeFile writes a header and the data of its tensors.
func writeFile(w io.Writer, header []byte, tensors []tensor) error {
	b := bufio.NewWriterSize(w, 1<<20)
	_, err := b.Write(header)
	for _, t := range tensors {
		if err == nil {
			err = t.write(b)
		}
	}
	if err == nil {
		err = b.Flush()
	}
	if err != nil {
		return fmt.Errorf("write demo model: %w", err)
	}
	return nil
}

// write writes the tensor's data. No padding is needed between tensors: their
// rows are multiples of 8 numbers, 32 bytes, which is the alignment.
func (t tensor) write(w io.Writer) error {
	row, data := make([]float32, t.width), make([]byte, 4*t.width)
	for i := range t.rows {
		if t.fill != nil {
			t.fill(i, row)
			for j, x := range row {
				binary.LittleEndian.PutUint32(data[4*j:], math.Float32bits(x))
			}
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	return nil
}
