package gguf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
)

// remote is a file that counts what is read of it.
type remote struct {
	*bytes.Reader
	mu       sync.Mutex
	bytes    int
	requests int
	err      error
}

func (r *remote) ReadAt(p []byte, off int64) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return 0, r.err
	}
	n, err = r.Reader.ReadAt(p, off)
	r.requests++
	r.bytes += n
	return n, err
}

// large is a model with a tokenizer of a megabyte, and weights of another.
func large(kind TensorType, more ...entry) file {
	tokens := make([]string, 60_000)
	for i := range tokens {
		tokens[i] = fmt.Sprintf("token%06d", i)
	}
	f := llama(more...).without("tokenizer.ggml.tokens")
	f.entries = append(f.entries, entry{"tokenizer.ggml.tokens", tokens}, entry{fileType, uint32(kind)})
	f.entries = append(f.without(fileType).entries, entry{fileType, uint32(kind)})
	size := map[TensorType]uint64{1: 2 << 20, 8: 1114112, 2: 589824}[kind]
	f.tensors = append(f.tensors, tensor{name: "blk.1.attn_q.weight", kind: kind, dims: []uint64{1024, 1024}, size: size})
	return f
}

func source(t *testing.T, name string, f file) (Source, *remote) {
	t.Helper()
	content := f.bytes(t)
	r := &remote{Reader: bytes.NewReader(content)}
	return Source{r, name, int64(len(content))}, r
}

// TestFamily: the tokenizer is read once for several quantisations, and no weights at all.
func TestFamily(t *testing.T) {
	const most = 4 * firstRead // of a file whose tokenizer is known
	split := func(kind TensorType, no uint16, tensors int) file {
		f := large(kind, entry{"split.no", no}, entry{"split.count", uint16(2)}, entry{"split.tensors.count", int32(6)})
		if no == 1 {
			f = file{entries: []entry{{"split.no", no}, {"split.count", uint16(2)}}, tensors: f.tensors[tensors:]}
		} else {
			f.tensors = f.tensors[:tensors]
		}
		return f
	}
	for name, tt := range map[string]struct {
		first, second []file
		context       uint32
		again         bool // the tokenizer is read again
	}{
		"another quantisation": {first: []file{large(1)}, second: []file{large(8)}, context: 8192},
		"parts":                {first: []file{split(1, 0, 5), split(1, 1, 5)}, second: []file{split(8, 0, 5), split(8, 1, 5)}, context: 8192},
		"another context":      {first: []file{large(1)}, second: []file{large(8).with("llama.context_length", uint32(4096)).with(fileType, uint32(8))}, context: 4096, again: true},
		"one entry more":       {first: []file{large(1)}, second: []file{large(8, entry{"general.url", "x"})}, context: 8192, again: true},
		"a longer entry":       {first: []file{large(1, entry{"general.url", "x"})}, second: []file{large(8, entry{"general.url", "xy"})}, context: 8192, again: true},
		"other tensors of the same number": {
			first: []file{large(1)}, second: []file{large(8).withTensors(append(large(8).tensors[:5:5], tensor{name: "blk.1.attn_k.weight", kind: 8, dims: []uint64{1024, 1024}, size: 1114112})...)},
			context: 8192, again: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var f Family
			read := func(files []file) (h *Header, bytes, size int) {
				t.Helper()
				var sources []Source
				var remotes []*remote
				for i := range files {
					s, r := source(t, "a.gguf", files[i])
					sources, remotes = append(sources, s), append(remotes, r)
				}
				h, err := f.Read(sources)
				if err != nil {
					t.Fatal(err)
				}
				for i, r := range remotes {
					bytes, size = bytes+r.bytes, size+int(sources[i].Size)
				}
				return h, bytes, size
			}
			read(tt.first)
			h, bytes, size := read(tt.second)
			var want file
			for _, part := range tt.second {
				want.tensors = append(want.tensors, part.tensors...)
			}
			if h.Vocabulary != 60_000 || h.Context != tt.context || len(h.Tensors) != len(want.tensors) {
				t.Fatalf("got %+v", h)
			}
			for i := range want.tensors {
				if h.Tensors[i].Name != want.tensors[i].name || h.Tensors[i].Bytes != want.tensors[i].size {
					t.Errorf("tensor %d is %+v", i, h.Tensors[i])
				}
			}
			if again := bytes > most; again != tt.again || bytes > size {
				t.Errorf("%d bytes of %d were read", bytes, size)
			}
			if h.FileType != 8 {
				t.Errorf("its type is %v", h.FileType)
			}
		})
	}
}

// TestFamilyReads: a header is read in few requests, and little beyond it.
func TestFamilyReads(t *testing.T) {
	var f Family
	s, r := source(t, "a.gguf", large(1))
	h, err := f.Read([]Source{s})
	if err != nil || h.FileType != 1 {
		t.Fatal(h, err)
	}
	header := int(s.Size) - int(h.TensorBytes)
	if r.requests > 8 || r.bytes > 2*header+2*firstRead {
		t.Errorf("%d requests read %d bytes of a header of %d", r.requests, r.bytes, header)
	}
}

func TestFamilyErrors(t *testing.T) {
	broken := errors.New("the network is down")
	small, smallRemote := source(t, "a.gguf", llama())
	smallRemote.err = broken
	cut, _ := source(t, "b.gguf", file{entries: large(1).entries, tensors: large(1).tensors, cut: 1 << 20})
	page := "<!doctype html><title>Log in</title>"
	part, _ := source(t, "c.gguf", llama(entry{"split.no", uint16(0)}, entry{"split.count", uint16(2)}))
	for name, tt := range map[string]struct {
		files []Source
		want  string
	}{
		"network":                      {[]Source{small}, "read model a.gguf: at byte 0: the network is down"},
		"cut short":                    {[]Source{cut}, "read model b.gguf: the file has"},
		"a web page":                   {[]Source{{strings.NewReader(page), "d.gguf", int64(len(page))}}, "this is a web page"},
		"empty":                        {[]Source{{strings.NewReader(""), "e.gguf", 0}}, "the file is empty"},
		"a part alone":                 {[]Source{part}, "by its header this is part 1 of 2"},
		"shorter than its server says": {[]Source{{strings.NewReader("GGUF"), "f.gguf", 1 << 20}}, "the file ends within it"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := new(Family).Read(tt.files)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if name == "network" && !errors.Is(err, broken) {
				t.Errorf("%v does not wrap its cause", err)
			}
		})
	}
}

var _ io.ReaderAt = (*remote)(nil)
