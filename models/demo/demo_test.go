package demo

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/bits"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models/gguf"
)

// head keeps the start of what is written to it and counts all bytes.
type head struct {
	bytes.Buffer
	size int64
}

func (h *head) Write(p []byte) (int, error) {
	h.size += int64(len(p))
	if room := 1<<20 - h.Len(); room > 0 {
		h.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func TestHeader(t *testing.T) {
	tests := map[string]struct {
		shape Shape
		size  int64
		want  gguf.Header
	}{
		"small": {Small, 1_976_928, gguf.Header{Layers: 2, Embedding: 64, Heads: 4, KeyLength: 16}},
		"slow":  {Slow, 214_820_384, gguf.Header{Layers: 12, Embedding: 512, Heads: 8, KeyLength: 64}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var file head
			if err := Write(&file, tt.shape); err != nil {
				t.Fatal(err)
			}
			if file.size != tt.size {
				t.Errorf("%d bytes, want %d", file.size, tt.size)
			}
			got, err := gguf.Parse(&file, file.size)
			if err != nil {
				t.Fatal(err)
			}
			if got.Version != 3 || got.Architecture != "llama" || got.Name != "llmsup demo (counts)" || got.FileType.String() != "F32" {
				t.Errorf("version %d, %q, %q, %v", got.Version, got.Architecture, got.Name, got.FileType)
			}
			if got.Layers != tt.want.Layers || got.Embedding != tt.want.Embedding || got.Heads != tt.want.Heads ||
				got.KVHeads[0] != tt.want.Heads || got.KeyLength != tt.want.KeyLength || got.Context != 8192 || got.Vocabulary != 3262 {
				t.Errorf("got %d layers, embedding %d, %d heads, KV heads %d, key length %d, context %d, vocabulary %d",
					got.Layers, got.Embedding, got.Heads, got.KVHeads, got.KeyLength, got.Context, got.Vocabulary)
			}
			// The header has at most a quarter of a megabyte.
			if rest := file.size - int64(got.TensorBytes); rest < 0 || rest > 256<<10 {
				t.Errorf("%d of %d bytes are tensors", got.TensorBytes, file.size)
			}
		})
	}
}

// The hash is pinned, so that the model is not changed by mistake: each user would have to
// write it again.
func TestWriteIsDeterministic(t *testing.T) {
	const want = "69a76a5a3a724e45af3fad382de08505ba847dd8786ef6ada74bb97e21ae36fd"
	for range 2 {
		hash := sha256.New()
		if err := Write(hash, Small); err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(hash.Sum(nil)); got != want {
			t.Errorf("SHA-256 %s, want %s", got, want)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(s *Shape)
		want   string
	}{
		"narrow":        {func(s *Shape) { s.Width = 32 }, "width 32"},
		"odd width":     {func(s *Shape) { s.Width = 65 }, "width 65"},
		"no heads":      {func(s *Shape) { s.Heads = 0 }, "0 heads"},
		"uneven heads":  {func(s *Shape) { s.Heads = 3 }, "3 heads"},
		"heads of one":  {func(s *Shape) { s.Heads = 64 }, "64 heads"},
		"odd FFN":       {func(s *Shape) { s.FFN = 65 }, "feed-forward width 65"},
		"no blocks":     {func(s *Shape) { s.Blocks = 0 }, "0 blocks"},
		"no context":    {func(s *Shape) { s.Context = 0 }, "0 tokens"},
		"minus numbers": {func(s *Shape) { s.Numbers = -1 }, "-1 numbers"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := Small
			tt.change(&s)
			if err := Write(io.Discard, s); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want ... %s ...", err, tt.want)
			}
		})
	}
}

// full is a disk with a few free bytes.
type full struct{ room int }

var errFull = errors.New("no space left")

func (f *full) Write(p []byte) (int, error) {
	n := min(f.room, len(p))
	f.room -= n
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

func TestWriteFails(t *testing.T) {
	for _, room := range []int{0, 1 << 20, 1_976_927} {
		if err := Write(&full{room}, Small); !errors.Is(err, errFull) {
			t.Errorf("on a disk with room for %d bytes: %v", room, err)
		}
	}
	if err := Write(&full{1_976_928}, Small); err != nil {
		t.Error(err)
	}
}

// No two numbers may have similar vectors, or the model would confuse them.
func TestVectorsAreFarApart(t *testing.T) {
	for _, s := range []Shape{Small, Slow} {
		vectors := s.vectors()
		closest := -1.0
		for i, a := range vectors {
			for _, b := range vectors[:i] {
				differ := 0
				for k := range a {
					differ += bits.OnesCount64(a[k] ^ b[k])
				}
				closest = max(closest, 1-2*float64(differ)/float64(s.Width))
			}
		}
		if closest > 0.75 {
			t.Errorf("width %d: two vectors have the cosine %v", s.Width, closest)
		}
		t.Logf("width %d: the closest vectors have the cosine %v", s.Width, closest)
	}
}
