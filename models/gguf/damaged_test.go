package gguf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
)

// header is a file's start with hostile counts, followed by what comes after.
func header(version uint32, tensors, entries uint64, rest ...any) []byte {
	var b builder
	b.WriteString("GGUF")
	b.put(version, tensors, entries)
	b.put(rest...)
	return b.Bytes()
}

type damagedFile struct {
	data []byte
	want string // part of the error
}

// damagedFiles are files that are not models, each for one reason.
func damagedFiles(t testing.TB) map[string]damagedFile {
	t.Helper()
	const huge = uint64(1) << 62
	truncated := llama()
	truncated.cut = 100
	safetensors := append(binary.LittleEndian.AppendUint64(nil, 20), `{"__metadata__":{}}          `...)
	name := func(n uint64) raw { return rawValue(typeString, n) }
	return map[string]damagedFile{
		"empty":               {nil, "the file is empty"},
		"three bytes":         {[]byte("GGU"), "only 3 bytes"},
		"magic only":          {[]byte("GGUF"), "ends within it, after 4 bytes"},
		"text":                {[]byte("# How to download the model\n"), `a text file (it starts with "# How to download th")`},
		"text, not ASCII":     {[]byte("Größe: 9 GB, für später\n"), "a text file"},
		"binary":              {[]byte("\x7fELF\x02\x01\x01\x00\x00"), `not a GGUF file (it starts with "\x7fELF")`},
		"safetensors":         {safetensors, "convert_hf_to_gguf.py"},
		"PyTorch":             {[]byte("PK\x03\x04\x00\x00\x08\x08"), "a PyTorch checkpoint"},
		"web page":            {[]byte("<!DOCTYPE html><html lang=en>"), "a web page"},
		"Git LFS pointer":     {[]byte("version https://git-lfs.github.com/spec/v1\noid sha256:4d\n"), "git lfs pull"},
		"not yet downloaded":  {make([]byte, 5000), "starts with zeroes"},
		"GGJT":                {[]byte("tjgg\x03\x00\x00\x00\x00\x7d\x00\x00"), "a format from before GGUF"},
		"GGML":                {[]byte("lmgg\x00\x7d\x00\x00"), "a format from before GGUF"},
		"big-endian":          {header(0x03000000, 0, 0), "big-endian"},
		"version 0":           {header(0, 0, 0), "version is 0"},
		"version 1":           {header(1, 0, 0), "version 1"},
		"version 4":           {header(4, 0, 0), "update llmsup"},
		"version of nonsense": {header(0x12345678, 0, 0), "version is 305419896"},

		"cut in the counts":          {header(3, 0, 0)[:15], "ends within it, after 15 bytes"},
		"billions of tensors":        {header(3, huge, 0), "counts 4611686018427387904 tensors"},
		"billions of entries":        {header(3, 0, 5_000_000_000), "counts 5000000000 metadata entries"},
		"fewer entries than counted": {header(3, 0, 60000), "ends within it"},
		"fewer tensors than counted": {header(3, 60000, 0), "ends within it"},
		"key past the end":           {header(3, 0, 1, huge), "ends within it"},
		"key of a negative length":   {header(3, 0, 1, int64(-1)), "ends within it"},
		"empty key":                  {header(3, 0, 1, uint64(0), make([]byte, 40)), "a metadata key is 0 bytes long"},
		"key of 70000 bytes":         {header(3, 0, 1, uint64(70000), make([]byte, 80000)), "a metadata key is 70000 bytes long"},
		"text past the end":          {llama(entry{"a", name(huge)}).bytes(t), "ends within it"},
		"kept text past the end":     {llama().with("general.name", name(huge)).bytes(t), "ends within it"},
		"type that does not exist":   {llama(entry{"a", rawValue(uint32(13))}).bytes(t), "the type 13"},
		"array of arrays":            {llama(entry{"a", rawValue(typeArray, typeArray, uint64(1))}).bytes(t), "array of arrays"},
		"array past the end":         {llama(entry{"a", rawValue(typeArray, typeUint8, huge)}).bytes(t), "counts 4611686018427387904 elements"},
		"array that wraps around":    {llama(entry{"a", rawValue(typeArray, typeUint64, huge)}).bytes(t), "counts 4611686018427387904 elements"},
		"array of too many strings":  {llama(entry{"a", rawValue(typeArray, typeString, huge)}).bytes(t), "ends within it"},
		"kept array past the end":    {llama().with("llama.attention.head_count", rawValue(typeArray, typeUint32, uint64(120))).withTensors().bytes(t), "ends within it"},
		"an entry twice":             {llama(entry{"llama.block_count", uint32(2)}).bytes(t), `has "llama.block_count" twice`},

		"no architecture":          {llama().without("general.architecture").bytes(t), "general.architecture is missing"},
		"architecture no text":     {llama().with("general.architecture", uint32(1)).bytes(t), "general.architecture is not a text"},
		"no layers given":          {llama().without("llama.block_count").bytes(t), "lacks llama.block_count"},
		"no embedding given":       {llama().without("llama.embedding_length").bytes(t), "lacks llama.embedding_length"},
		"layers of another model":  {llama().with("general.architecture", "qwen2").bytes(t), "lacks qwen2.block_count"},
		"no layers":                {llama().with("llama.block_count", uint32(0)).bytes(t), "llama.block_count is 0"},
		"four billion layers":      {llama().with("llama.block_count", uint32(math.MaxUint32)).bytes(t), "llama.block_count is 4294967295"},
		"layers past 32 bits":      {llama().with("llama.block_count", uint64(1<<33)).bytes(t), "llama.block_count is 8589934592"},
		"layers as a text":         {llama().with("llama.block_count", "2").bytes(t), "llama.block_count is not a whole number"},
		"layers as an array":       {llama().with("llama.block_count", []uint32{2}).bytes(t), "llama.block_count is not a whole number"},
		"layers as a fraction":     {llama().with("llama.block_count", float32(2)).bytes(t), "llama.block_count is not a whole number"},
		"negative layers":          {llama().with("llama.block_count", int32(-2)).bytes(t), "negative"},
		"KV heads without heads":   {llama().with("llama.attention.head_count", uint32(0)).bytes(t), "2 KV heads, but 0 attention heads"},
		"more KV heads than heads": {llama().with("llama.attention.head_count_kv", uint32(5)).bytes(t), "5 KV heads, but 4 attention heads"},
		"four billion heads":       {llama().with("llama.attention.head_count", uint32(math.MaxUint32)).bytes(t), "4294967295 attention heads in an embedding of 64"},
		"KV heads of other layers": {llama().with("llama.attention.head_count_kv", []uint32{2, 2, 2}).bytes(t), "each of the 2 layers"},
		"KV heads as texts":        {llama().with("llama.attention.head_count_kv", []string{"2", "2"}).bytes(t), "each of the 2 layers"},
		"tokens as a number":       {llama().with("tokenizer.ggml.tokens", uint32(2)).bytes(t), "tokenizer.ggml.tokens is not an array"},
		"alignment 0":              {llama().with("general.alignment", uint32(0)).bytes(t), "general.alignment is 0"},
		"alignment 33":             {llama().with("general.alignment", uint32(33)).bytes(t), "general.alignment is 33"},
		"alignment as a text":      {llama().with("general.alignment", "32").bytes(t), "general.alignment is not a whole number"},
		"a LoRA adapter":           {llama().with("general.type", "adapter").bytes(t), "pass the adapter to llama-server in `args`"},
		"a projector":              {llama().with("general.architecture", "clip").bytes(t), "pass the projector to llama-server in `args`"},
		"an importance matrix":     {llama().with("general.type", "imatrix").without("general.architecture").bytes(t), "importance matrix"},
		"a later part of a split":  {file{entries: []entry{{"split.no", uint16(1)}, {"split.count", uint16(3)}}}.bytes(t), "part 2 of a split model: name its first part"},

		"truncated download": {
			truncated.bytes(t),
			"100 bytes are missing, the download is not complete; repeat it",
		},
		"no data at all": {
			llama().bytes(t)[:len(llama().withTensors().bytes(t))+300],
			"bytes are missing",
		},
		"alignment far past the end": {llama().with("general.alignment", uint32(1<<31)).withTensors(tensor{name: "a"}).bytes(t), "bytes are missing"},
		"tensor name past the end":   {header(3, 1, 0, huge), "ends within it"},
		"tensor without a name":      {header(3, 1, 0, uint64(0), make([]byte, 40)), "name is 0 bytes long"},
		"tensor name of 300 bytes":   {header(3, 1, 0, uint64(300), make([]byte, 400)), "name is 300 bytes long"},
		"five dimensions":            {llama().withTensors(tensor{name: "a", dims: make([]uint64, 5)}).bytes(t), `tensor "a" has 5 dimensions`},
		"billions of dimensions":     {header(3, 1, 0, uint64(1), uint8('a'), uint32(math.MaxUint32)), "4294967295 dimensions"},
		"dimensions that overflow":   {llama().withTensors(tensor{name: "a", dims: []uint64{1 << 32, 1 << 32}}).bytes(t), "has the dimensions [4294967296 4294967296]"},
		"an enormous tensor":         {llama().withTensors(tensor{name: "a", dims: []uint64{1 << 41}}).bytes(t), "8796093022208 bytes"},
		"rows of half a block":       {llama().withTensors(tensor{name: "a", kind: 12, dims: []uint64{128, 2}, size: 144}).bytes(t), "blocks of 256"},
		"a number in half a block":   {llama().withTensors(tensor{name: "a", kind: 8, size: 34}).bytes(t), "blocks of 32"},
		"a misaligned tensor":        {llama().withTensors(tensor{name: "a", dims: []uint64{8}, size: 32, shift: 1}).bytes(t), `tensor "a" is at byte 1 of the data`},
		"a gap between tensors":      {llama().withTensors(tensor{name: "a", dims: []uint64{8}, size: 64}, tensor{name: "b", dims: []uint64{8}, size: 32}).bytes(t), `tensor "b" is at byte 64 of the data and not at 32`},
		"tensors on one another": {
			llama().withTensors(tensor{name: "a", dims: []uint64{8}, size: 32}, tensor{name: "b", dims: []uint64{8}, size: 32, shift: ^uint64(31)}).bytes(t),
			`tensor "b" is at byte 0 of the data`,
		},
		"an unknown type that ends before it starts": {
			llama().withTensors(tensor{name: "a", dims: []uint64{8}, size: 32}, tensor{name: "b", kind: 99, size: 32}, tensor{name: "c", shift: ^uint64(63)}).bytes(t),
			`tensor "c" is at byte 0 of the data, before the one that it follows`,
		},
		"an unknown type of exabytes": {
			llama().withTensors(tensor{name: "a", kind: 99}, tensor{name: "b", shift: huge}).bytes(t),
			`tensor "a" has 4611686018427387904 bytes`,
		},
		"a tensor twice": {
			llama().withTensors(tensor{name: "a", dims: []uint64{8}, size: 32}, tensor{name: "a", dims: []uint64{8}, size: 32}).bytes(t),
			`has the tensor "a" twice`,
		},
	}
}

func TestParseDamaged(t *testing.T) {
	for name, tt := range damagedFiles(t) {
		t.Run(name, func(t *testing.T) {
			h, err := parseBytes(tt.data)
			if err == nil {
				t.Fatalf("accepted: %+v", h)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant ... %s ...", err, tt.want)
			}
			if strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("not one line: %q", err)
			}
		})
	}
}

// A truncated file is an error, and a flipped bit is an error or changes the header; neither
// panics.
func TestParseCutAndFlipped(t *testing.T) {
	good := llama().bytes(t)
	for n := range good {
		if _, err := parseBytes(good[:n]); err == nil {
			t.Errorf("accepted when cut to %d of %d bytes", n, len(good))
		}
	}
	headerBytes := len(llama().withTensors().bytes(t)) + 300
	for i := range headerBytes * 8 {
		flipped := bytes.Clone(good)
		flipped[i/8] ^= 1 << (i % 8)
		if h, err := parseBytes(flipped); err == nil {
			checkInvariants(t, h, uint64(len(flipped)))
		}
	}
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// allowance is what Parse may allocate for data: its buffer, and a small multiple
// of the bytes that the header really has.
func allowance(data []byte) uint64 { return 512<<10 + 64*uint64(len(data)) }

// A header of a hundred bytes that claims exabytes allocates no more than its buffer, even if
// the file is large enough for the claim.
func TestParseAllocations(t *testing.T) {
	for name, tt := range damagedFiles(t) {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int64{int64(len(tt.data)), 10 << 30, math.MaxInt64} {
				got := allocated(func() { _, _ = Parse(bytes.NewReader(tt.data), size) })
				if most := allowance(tt.data); got > most {
					t.Errorf("%d bytes allocated for a header of %d in a file of %d, at most %d expected", got, len(tt.data), size, most)
				}
			}
		})
	}
}

// A header may not make the reader read the whole of a large file.
func TestParseHeaderLimit(t *testing.T) {
	start := header(3, 0, 1, uint64(1), uint8('a'), typeArray, typeUint8, uint64(40<<30))
	_, err := Parse(bytes.NewReader(start), 50<<30)
	if err == nil || !strings.Contains(err.Error(), "counts 42949672960 elements") {
		t.Errorf("got %v", err)
	}
	start = header(3, 0, 1, uint64(1), uint8('a'), typeString, uint64(1<<30))
	_, err = Parse(bytes.NewReader(start), 50<<30)
	if err == nil || !strings.Contains(err.Error(), "longer than 256 MiB") {
		t.Errorf("got %v", err)
	}
}

// TestListsAreNotKept checks that no list is kept of thousands of long lists with wanted
// suffixes.
func TestListsAreNotKept(t *testing.T) {
	const entries, length = 5000, 4096
	var b bytes.Buffer
	b.Write(header(3, 0, entries))
	word := func(n uint64, size int) { b.Write(binary.LittleEndian.AppendUint64(nil, n)[:size]) }
	for i := range entries {
		key := fmt.Sprintf("x%05d.block_count", i)
		word(uint64(len(key)), 8)
		b.WriteString(key)
		word(uint64(typeArray), 4)
		word(uint64(typeUint8), 4)
		word(length, 8)
		b.Write(make([]byte, length))
	}
	data := b.Bytes()
	got := allocated(func() {
		if _, err := Parse(bytes.NewReader(data), int64(len(data))); err == nil {
			t.Error("that is a model?")
		}
	})
	if got > 2<<20 {
		t.Errorf("%d bytes allocated for %d of lists", got, len(data))
	}
}
