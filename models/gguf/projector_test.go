package gguf

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestReadProjector(t *testing.T) {
	clip := func(more ...entry) file {
		return file{
			entries: append([]entry{{"general.architecture", "clip"}, {"general.type", "mmproj"}}, more...),
			tensors: []tensor{{name: "v.patch_embd.weight", kind: 0, dims: []uint64{8}, size: 32}},
		}
	}
	for name, tt := range map[string]struct {
		file file
		want Projector
		err  string
	}{
		"images":           {clip(entry{"clip.has_vision_encoder", true}), Projector{Vision: true}, ""},
		"sound":            {clip(entry{"clip.has_audio_encoder", true}, entry{"clip.has_vision_encoder", false}), Projector{Audio: true}, ""},
		"both":             {clip(entry{"clip.has_audio_encoder", true}, entry{"clip.has_vision_encoder", true}), Projector{Vision: true, Audio: true}, ""},
		"neither":          {clip(), Projector{}, ""},
		"flags of no type": {clip(entry{"clip.has_vision_encoder", "true"}), Projector{}, ""},
		"a model":          {llama(), Projector{}, `its architecture is "llama" and not "clip"`},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, filepath.Join(t.TempDir(), "mmproj.gguf"), tt.file.bytes(t))
			got, err := ReadProjector(path)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%+v, %v; want %+v, %q", got, err, tt.want, tt.err)
			}
		})
	}
	if _, err := ReadProjector("none.gguf"); err == nil {
		t.Error("a projector that does not exist was read")
	}
}
