package demo

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/llmsup/llmsup/models/gguf"
)

// writeEncoder writes an encoder to a file and returns its path.
func writeEncoder(t *testing.T, e Encoder) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), e.FileName())
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := e.Write(f); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEncoderHeader(t *testing.T) {
	for name, tt := range map[string]struct {
		encoder Encoder
		pooling gguf.Pooling
	}{
		"embeds": {Encoder{}, gguf.PoolingMean},
		"ranks":  {Encoder{Ranker: true}, gguf.PoolingRank},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := gguf.Read(writeEncoder(t, tt.encoder))
			if err != nil {
				t.Fatal(err)
			}
			if h.Architecture != "bert" || !h.Bidirectional || h.Pooling != tt.pooling || h.RankHead != tt.encoder.Ranker || h.ChatTemplate {
				t.Errorf("%s, bidirectional %t, pooling %d, rank head %t, chat template %t",
					h.Architecture, h.Bidirectional, h.Pooling, h.RankHead, h.ChatTemplate)
			}
			if h.Layers != 1 || h.Embedding != encoderWidth || h.Context != encoderContext || int(h.Vocabulary) != firstLetter+2*len(letters) {
				t.Errorf("%d layers, embedding %d, context %d, vocabulary %d", h.Layers, h.Embedding, h.Context, h.Vocabulary)
			}
		})
	}
}

// The hashes are pinned: the same file on each machine.
func TestEncoderIsDeterministic(t *testing.T) {
	for want, e := range map[string]Encoder{
		"16a638250262bdbaa0aaedb0b6b75e3a398f866787849fc3f02d428b740bed7e": {},
		"263242356a4c31b4121263bef71e18d72dc1aac59eb3e1ac9cf5b9691553de9a": {Ranker: true},
	} {
		hash := sha256.New()
		if err := e.Write(hash); err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(hash.Sum(nil)); got != want {
			t.Errorf("%s: SHA-256 %s, want %s", e.FileName(), got, want)
		}
	}
}

// TestEmbedsOnLlamaServer: texts with the same letters have the same embedding.
func TestEmbedsOnLlamaServer(t *testing.T) {
	client := startServer(t, writeEncoder(t, Encoder{}), "--embeddings")
	var answer struct {
		Data []struct{ Embedding []float64 }
	}
	body := post(t, client, "/v1/embeddings", `{"input":["cat","act","dog","Cats and dogs, 42"]}`)
	if err := json.NewDecoder(body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Data) != 4 {
		t.Fatalf("%d embeddings", len(answer.Data))
	}
	cosine := func(i, j int) (sum float64) { // llama-server's embeddings have the length 1
		for k, x := range answer.Data[i].Embedding {
			sum += x * answer.Data[j].Embedding[k]
		}
		return sum
	}
	if same, other := cosine(0, 1), cosine(0, 2); math.Abs(same-1) > 1e-4 || other > 0.9 {
		t.Errorf("cat is like act by %.4f and like dog by %.4f", same, other)
	}
	if length := cosine(3, 3); math.Abs(length-1) > 1e-4 {
		t.Errorf("an embedding has the length %v", length)
	}
}

// TestRanksOnLlamaServer: a document with more of "yes" has a higher rank.
func TestRanksOnLlamaServer(t *testing.T) {
	client := startServer(t, writeEncoder(t, Encoder{Ranker: true}), "--reranking")
	var answer struct {
		Results []struct {
			Index int
			Score float64 `json:"relevance_score"`
		}
	}
	body := post(t, client, "/v1/rerank", `{"query":"is it","documents":["no no no","yes yes yes","yes no no"]}`)
	if err := json.NewDecoder(body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	if r := answer.Results; len(r) != 3 || r[0].Index != 1 || r[1].Index != 2 || r[2].Index != 0 || r[0].Score < r[1].Score+0.1 || r[1].Score < r[2].Score+0.1 {
		t.Errorf("ranks %+v, want documents 1, 2, 0", r)
	}
}
