package placement

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"

	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/gguf"
	"github.com/llmsup/llmsup/models/vram"
)

// estimate finds the need of the model, unless it has been found already.
func (w *Workload) estimate() {
	w.mu.Lock()
	isCommand := w.entry.IsCommand()
	w.mu.Unlock()
	if isCommand {
		w.assume()
		return
	}
	w.readModel()
}

// assume makes the need of another engine than llama-server unknown: it is what is
// configured, and then what is measured. A change of the command, which may name another
// model, makes the measured need void; its signature shows nothing of its arguments and
// variables, which may be secret.
func (w *Workload) assume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := sha256.Sum256(fmt.Append(nil, w.entry.Argv, w.entry.Env))
	signature := "command " + hex.EncodeToString(sum[:8])
	if signature != w.estimated && w.entry.VRAM == 0 && w.selector != gpu.None {
		w.pool.log.Info().Str("server", w.name).Msg("its VRAM need is unknown until it has been measured; `vram` sets what to assume")
	}
	w.estimated, w.need, w.trainedContext, w.fileSize = signature, vram.Need{}, 0, 0
}

// readModel estimates the need of the model, once for each version of its file. It reads
// the file without a lock, since the disk may not answer. A file that cannot be read is
// logged once and has no need: llama-server will report the problem.
func (w *Workload) readModel() {
	w.mu.Lock()
	entry, known := w.entry, w.estimated
	w.mu.Unlock()
	if entry.Model == "" { // it is still downloaded
		return
	}
	run := entry.Run()
	signature := fileSignature(entry.Model) + fmt.Sprint(run)
	if signature == known {
		return
	}
	log := w.pool.log
	var need vram.Need
	trained, size := 0, uint64(0)
	h, err := gguf.Read(entry.Model)
	if err != nil {
		log.Warn().Str("server", w.name).Err(err).Msg("the model's VRAM need is unknown; starting it anyway")
	} else {
		need = vram.Estimate(h, run)
		trained = int(h.Context)
		size = sizeOf(h.Files)
	}
	if need.UncertainBecause != "" && need.Overestimated {
		log.Info().Str("server", w.name).Msg("the model's VRAM need is unknown (" + need.UncertainBecause + "); starting it anyway")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.estimated, w.need, w.trainedContext = signature, need, trained
	w.fileSize = size
}

// sizeOf returns the size of some files in bytes; 0 = unknown.
func sizeOf(paths []string) (size uint64) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		size += uint64(max(info.Size(), 0))
	}
	return size
}

// fileSignature returns a string that changes when the file does.
func fileSignature(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(info.Size(), info.ModTime())
}
