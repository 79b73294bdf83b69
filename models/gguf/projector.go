package gguf

import "fmt"

// Projector is the header of a projector, the file that a model needs to read images or sound
// (llama-server's --mmproj).
type Projector struct {
	Vision bool // clip.has_vision_encoder: it reads images
	Audio  bool // clip.has_audio_encoder: it reads sound
}

const (
	hasVision = "clip.has_vision_encoder"
	hasAudio  = "clip.has_audio_encoder"
)

// ReadProjector reads the header of the projector at path. An error is one sentence with the
// file and what to do.
func ReadProjector(path string) (Projector, error) {
	p, err := readPart(path)
	if err != nil {
		return Projector{}, err
	}
	f := fields{metadata: p.metadata}
	if arch := f.text("general.architecture"); arch != "clip" {
		return Projector{}, fmt.Errorf("read projector %s: its architecture is %q and not \"clip\": name the projector that belongs to the model", path, arch)
	}
	return Projector{Vision: f.optional(hasVision, 0) == 1, Audio: f.optional(hasAudio, 0) == 1}, f.err
}
