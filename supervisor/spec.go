package supervisor

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
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
	for _, path := range append(shards(s.Model), s.Binary) {
		info, err := os.Stat(path)
		if err != nil {
			all.WriteString("none;")
			continue
		}
		fmt.Fprint(&all, info.Size(), info.ModTime(), info.Mode(), ";")
	}
	return all.String()
}

// maxShards bounds how many parts of a model fileState reads.
const maxShards = 1000

// shardName matches the name of a part of a split model.
var shardName = regexp.MustCompile(`^(.*-)\d{5}-of-(\d{5})\.gguf$`)

// shards returns the paths of all parts of a model.
func shards(model string) []string {
	m := shardName.FindStringSubmatch(model)
	if m == nil {
		return []string{model}
	}
	n, _ := strconv.Atoi(m[2]) // five digits
	var paths []string
	for i := 1; i <= min(n, maxShards); i++ {
		paths = append(paths, fmt.Sprintf("%s%05d-of-%s.gguf", m[1], i, m[2]))
	}
	return paths
}
