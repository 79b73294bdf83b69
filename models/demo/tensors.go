package demo

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// tensor is a matrix of float32, or a vector where it is marked as one.
type tensor struct {
	name        string
	width, rows int
	vector      bool
	fill        func(row int, out []float32) // sets out, one row; nil for all zero
}

// dims is the shape as GGUF wants it: the length of a row comes first.
func (t tensor) dims() []int {
	if t.vector {
		return []int{t.width}
	}
	return []int{t.width, t.rows}
}

// outputScale makes the softmax certain. The residual has the length sqrt(Width)
// once it is normalised, so the right token's logit is 8*sqrt(Width), which is 64
// in the Small model, and the next best one is at some two thirds of that.
const outputScale = 8

func (s Shape) tensors() []tensor {
	tokens := firstNumber + s.Numbers
	vectors := s.vectors()
	matrix := func(name string, width, rows int) tensor { return tensor{name: name, width: width, rows: rows} }
	norm := func(name string, x float32) tensor {
		return tensor{name: name, width: s.Width, rows: 1, vector: true, fill: constant(x)}
	}
	tensors := []tensor{{
		name: "token_embd.weight", width: s.Width, rows: tokens,
		fill: func(token int, out []float32) {
			// Vector 0 is the one that all tokens but the numbers share.
			vectors[max(token-firstNumber+1, 0)].write(out)
		},
	}}
	for i := range s.Blocks {
		block := func(name string) string { return fmt.Sprintf("blk.%d.%s.weight", i, name) }
		// Zero matrices cost llama-server the same time as any others. Those of
		// attn_output and ffn_down keep the block from changing the residual.
		tensors = append(tensors,
			norm(block("attn_norm"), 1),
			matrix(block("attn_q"), s.Width, s.Width),
			matrix(block("attn_k"), s.Width, s.Width),
			matrix(block("attn_v"), s.Width, s.Width),
			matrix(block("attn_output"), s.Width, s.Width),
			norm(block("ffn_norm"), 1),
			matrix(block("ffn_gate"), s.Width, s.FFN),
			matrix(block("ffn_up"), s.Width, s.FFN),
			matrix(block("ffn_down"), s.FFN, s.Width),
		)
	}
	return append(tensors, norm("output_norm.weight", outputScale), tensor{
		name: "output.weight", width: s.Width, rows: tokens,
		fill: func(token int, out []float32) {
			switch {
			case token >= firstNumber: // number n+1 follows number n; 1 follows everything else
				vectors[token-firstNumber].write(out)
			case token == endToken:
				vectors[s.Numbers].write(out)
			default:
				clear(out)
			}
		},
	})
}

// constant fills a row with one number.
func constant(x float32) func(int, []float32) {
	return func(_ int, out []float32) {
		for i := range out {
			out[i] = x
		}
	}
}

// identity fills a square matrix that changes nothing.
func identity(row int, out []float32) {
	clear(out)
	out[row] = 1
}

// vector is a random unit vector: one of the corners of a cube, so that only its
// signs are random, one bit each, and no rounding can differ between machines.
type vector []uint64

// vectors returns the vector of all other tokens, then one for each number.
func (s Shape) vectors() []vector {
	// The seed is arbitrary, but must not change.
	random := rand.New(rand.NewPCG(1, 2))
	vectors := make([]vector, 1+s.Numbers)
	for i := range vectors {
		vectors[i] = make(vector, (s.Width+63)/64)
		for j := range vectors[i] {
			vectors[i][j] = random.Uint64()
		}
	}
	return vectors
}

func (v vector) write(out []float32) {
	x := float32(1 / math.Sqrt(float64(len(out))))
	for i := range out {
		out[i] = x
		if v[i/64]>>(i%64)&1 == 1 {
			out[i] = -x
		}
	}
}
