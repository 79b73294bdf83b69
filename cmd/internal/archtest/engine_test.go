package archtest

import (
	"fmt"
	"regexp"
	"slices"
)

// engineHomes may name the details of llama-server.
var engineHomes = []string{"supervisor/llamacpp", "models/vram"}

// engineDetail matches flags, environment variables, paths and metrics that only
// llama-server has. /health and flags such as --ctx-size are llmsup's own as well. The
// fields of requests and answers belong to the API, which the router has to read.
var engineDetail = regexp.MustCompile(`^(?:--(?:threads|alias|parallel|metrics|flash-attn|lora|mmproj|sse-ping-interval)\b|/(?:slots|props|infill|tokenize|detokenize|apply-template)$)|` +
	`llamacpp:|LLAMA_(?:ARG|API)_|\b(?:is_processing|n_decoded|total_slots)\b`)

// engineDetails checks that another engine is another package, and nothing else. Tests
// may name the details of the engine that they run.
func engineDetails(tree []source) []string {
	var violations []string
	for _, s := range tree {
		if s.test() || slices.Contains(testPackages, s.dir()) || slices.Contains(engineHomes, s.dir()) {
			continue
		}
		for _, literal := range s.literals {
			if engineDetail.MatchString(literal) {
				violations = append(violations, fmt.Sprintf("%s has %q, a detail of llama-server: move it into supervisor/llamacpp, behind supervisor.Engine", s.path, literal))
			}
		}
	}
	slices.Sort(violations)
	return violations
}
