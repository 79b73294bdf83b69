package daemon

import (
	"fmt"
	"os"
	"strings"

	"github.com/llmsup/llmsup/models/gguf"
	"github.com/llmsup/llmsup/models/vram"
)

// estimate works out what the model needs, once for each state of its file. The
// file is read without a lock: it may lie on a disk that does not answer. One
// that can't be read is told of once, and needs nothing: llama-server will say
// what is wrong with it.
func (t *tenant) estimate() {
	t.mu.Lock()
	entry, known := t.entry, t.estimated
	t.mu.Unlock()
	run := vram.Run{CtxSize: entry.CtxSize, GPULayers: entry.NGPULayers, Args: entry.Args}
	looks := look(entry.Model) + fmt.Sprint(run)
	if looks == known {
		return
	}
	var need vram.Need
	trained := 0
	h, err := gguf.Read(entry.Model)
	if err != nil {
		t.log.Warn().Str("server", t.name).Err(err).Msg("whether the model fits into the VRAM can't be told; it is started anyway")
	} else {
		need = vram.Estimate(h, run)
		trained = int(h.Context)
	}
	if name := ownSettings(os.Environ()); name != "" {
		need.Unsure, need.Less = name+" is set", true
	}
	if need.Unsure != "" && need.Less {
		t.log.Info().Str("server", t.name).Msg("whether the model fits into the VRAM can't be told (" + need.Unsure + "); it is started anyway")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.estimated, t.need, t.trained = looks, need, trained
}

// ownSettings returns a variable of the environment that changes how much VRAM
// llama-server needs, and is not in its arguments; "" = there is none.
func ownSettings(environ []string) string {
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		switch name {
		case "LLAMA_ARG_THREADS", "LLAMA_ARG_THREADS_BATCH", "LLAMA_ARG_THREADS_HTTP": // of the CPU
			continue
		}
		if strings.HasPrefix(name, "LLAMA_ARG_") && value != "" {
			return name
		}
	}
	return ""
}

func look(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(info.Size(), info.ModTime())
}
