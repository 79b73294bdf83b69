package supervisor

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/llmsup/llmsup/models/gguf"
)

// Spec is what to run. It does not change while its process lives.
type Spec struct {
	Engine     Engine   // that knows the program; nil = the Server's present one
	Name       string   // the server's name; also the `model` in its answers
	Binary     string   // the program's absolute path
	Model      string   // the GGUF's path; the program's, if only that knows its model
	CtxSize    int      // tokens, for all slots together
	NGPULayers int      // layers to keep in VRAM
	Args       []string // the user's own arguments, last on the command line
	Dir        string   // a folder for this server alone: its socket and pid file
	Secrets    []string // names of environment variables that the process must not see

	KeepCaches  bool   // save its prompt caches when it is unloaded
	CacheFolder string // where the process may save them; "" = nowhere. The Server sets it

	StopGrace    time.Duration // from SIGTERM to SIGKILL; 0 = 10 s
	LoadTimeout  time.Duration // loading without any progress; 0 = 120 s
	StallTimeout time.Duration // ready without any sign of life; 0 = 30 s

	// Traffic returns the calls that the server has. nil = not known.
	Traffic func() Traffic
	// GPU knows which GPUs to use, and what prevents a start. nil = all, nothing.
	GPU GPU
}

// Traffic is the calls of a server, as the router counts them.
type Traffic struct {
	Calls   int   // calls in flight
	Waiting int   // those of them that wait for the server, and not for their client to read
	Bytes   int64 // of answers so far
}

// Defaults of a Spec.
const (
	defaultStopGrace    = 10 * time.Second
	DefaultLoadTimeout  = 120 * time.Second
	DefaultStallTimeout = 30 * time.Second
)

// withDefaults returns s with a value for each optional field.
func (s Spec) withDefaults() Spec {
	s.StopGrace = cmp.Or(s.StopGrace, defaultStopGrace)
	s.LoadTimeout = cmp.Or(s.LoadTimeout, DefaultLoadTimeout)
	s.StallTimeout = cmp.Or(s.StallTimeout, DefaultStallTimeout)
	if s.Traffic == nil {
		s.Traffic = func() Traffic { return Traffic{} }
	}
	if s.GPU == nil {
		s.GPU = noGPU{}
	}
	return s
}

// fileState returns a text that differs when the program or a part of the model
// was changed, created or removed.
func (s Spec) fileState() string {
	var all strings.Builder
	for _, path := range append(gguf.Parts(s.Model), s.Binary) {
		info, err := os.Stat(path)
		if err != nil {
			all.WriteString("none;")
			continue
		}
		fmt.Fprint(&all, info.Size(), info.ModTime(), info.Mode(), ";")
	}
	return all.String()
}
