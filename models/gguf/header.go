package gguf

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// newHeader returns the header of a model with this metadata, which is the first file's for
// a split model, and with the tensors of all files.
func newHeader(version uint32, metadata map[string]value, tensors []Tensor) (*Header, error) {
	f := fields{metadata: metadata}
	h := &Header{
		Version:      version,
		Architecture: f.text("general.architecture"),
		Name:         f.text("general.name"),
		SizeLabel:    f.text("general.size_label"),
		FileType:     FileType(f.number(fileType, uint32(FileTypeUnknown))),
		Tensors:      tensors,
	}
	if err := checkModel(&f, h.Architecture); err != nil {
		return nil, err
	}
	arch := h.Architecture
	h.Layers = f.required(arch+".block_count", maxLayers)
	h.Embedding = f.required(arch+".embedding_length", math.MaxUint32)
	h.Context = f.number(arch+".context_length", 0)
	h.Experts = f.number(arch+".expert_count", 0)
	h.ExpertsUsed = f.number(arch+".expert_used_count", 0)
	h.Vocabulary = f.count("tokenizer.ggml.tokens")
	if f.err != nil {
		return nil, f.err
	}
	h.readHeads(&f)
	if f.err != nil {
		return nil, f.err
	}
	h.readMemory(&f)
	h.readUse(&f)
	return h, h.countTensors()
}

// checkModel rejects GGUF files that are not models.
func checkModel(f *fields, arch string) error {
	kind, no := f.text("general.type"), f.number("split.no", 0)
	switch {
	case f.err != nil:
		return f.err
	case kind == "adapter":
		return errors.New("this is a LoRA adapter and not a model: name the model, and pass the adapter to llama-server in `args`")
	case kind == "mmproj" || arch == "clip":
		return errors.New("this is a projector for images or sound and not a model: name the model, and pass the projector to llama-server in `args`")
	case kind == "imatrix":
		return errors.New("this is an importance matrix, made for quantising, and not a model: name the model")
	case arch == "" && no > 0:
		return fmt.Errorf("this is part %d of a split model: name its first part", no+1)
	case arch == "":
		return damaged("general.architecture is missing")
	}
	return nil
}

// readHeads sets the number and the size of the attention heads.
func (h *Header) readHeads(f *fields) {
	prefix := h.Architecture + ".attention."
	heads := f.perLayer(prefix+"head_count", make([]uint32, h.Layers))
	h.KVHeads = f.perLayer(prefix+"head_count_kv", heads)
	if f.err != nil {
		return
	}
	h.Heads = slices.Max(heads)
	// Each KV head serves a group of query heads, so there cannot be more KV heads. A
	// model without attention has 0 of both.
	if most := slices.Max(h.KVHeads); most > h.Heads {
		f.err = damaged("it has %d KV heads, but %d attention heads to use them", most, h.Heads)
		return
	}
	var size uint32
	if h.Heads > 0 {
		size = h.Embedding / h.Heads
	}
	h.KeyLength = f.number(prefix+"key_length", size)
	h.ValueLength = f.number(prefix+"value_length", size)
	if f.err == nil && h.Heads > 0 && (h.KeyLength == 0 || h.ValueLength == 0) {
		f.err = damaged("it has %d attention heads in an embedding of %d", h.Heads, h.Embedding)
	}
}

func (h *Header) readMemory(f *fields) {
	arch := h.Architecture
	h.Memory = Memory{
		Window:       f.optional(arch+".attention.sliding_window", 0),
		WindowPeriod: f.optional(arch+windowPattern, 0),
		WindowLayers: f.optionalFlags(arch+windowPattern, h.Layers),

		WindowKeyLength:   f.optional(arch+".attention.key_length_swa", h.KeyLength),
		WindowValueLength: f.optional(arch+".attention.value_length_swa", h.ValueLength),

		Latent:       f.optional(arch+".attention.key_length_mla", 0) > 0,
		SharedLayers: f.optional(arch+".attention.shared_kv_layers", 0),
		DraftLayers:  f.optional(arch+".nextn_predict_layers", 0),

		StateKernel: f.optional(arch+".ssm.conv_kernel", 0),
		StateInner:  f.optional(arch+".ssm.inner_size", 0),
		StateSize:   f.optional(arch+".ssm.state_size", 0),
		StateGroups: f.optional(arch+".ssm.group_count", 0),
		DeltaHead:   f.optional(arch+".kda.head_dim", 0),
		WKVHead:     f.optional(arch+".wkv.head_size", 0),
		TokenShifts: f.optional(arch+".token_shift_count", 2),
		ShortKernel: f.optional(arch+".shortconv.l_cache", 0),
	}
}

// readUse sets what shows what the model is for. llama-server loads a model without these
// entries as well, so none makes a file invalid.
func (h *Header) readUse(f *fields) {
	h.Pooling = Pooling(f.optional(h.Architecture+poolingType, uint32(PoolingUnset)))
	h.Bidirectional = f.optional(h.Architecture+causalAttention, 1) == 0
	for _, key := range chatTemplates {
		template := f.metadata[key].text
		h.ChatTemplate = h.ChatTemplate || template != ""
		h.ToolTemplate = h.ToolTemplate || strings.Contains(template, "tools")
	}
}

// countTensors sets the sums of the tensors' sizes. A duplicate name is an error, for
// llama-server as well.
func (h *Header) countTensors() error {
	seen := make(map[string]bool, len(h.Tensors))
	for i := range h.Tensors {
		t := &h.Tensors[i]
		if seen[t.Name] {
			return damaged("it has the tensor %q twice", t.Name)
		}
		seen[t.Name] = true
		h.TensorBytes += t.Bytes
		h.Parameters += t.elements()
		h.RankHead = h.RankHead || t.Name == "cls.weight" || t.Name == "cls.output.weight"
	}
	return nil
}
