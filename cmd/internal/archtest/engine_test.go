package archtest

import (
	"fmt"
	"regexp"
	"slices"
)

// engineHomes may name the details of llama-server.
var engineHomes = []string{"supervisor/llamacpp", "models/vram"}

// engineExceptions are other folders, with all below, that name them, each for a reason.
var engineExceptions = map[string]string{
	"router": "the API of a local server is about to come from supervisor.Capabilities",
}

// engineDetail matches flags, environment variables, paths, metrics and fields that only
// llama-server has. /health and flags such as --ctx-size are llmsup's own as well.
var engineDetail = regexp.MustCompile(`^(?:--(?:threads|alias|parallel|metrics|flash-attn|lora|mmproj|sse-ping-interval)\b|/(?:slots|props|infill|tokenize|detokenize|apply-template)$)|` +
	`llamacpp:|LLAMA_(?:ARG|API)_|\b(?:is_processing|n_decoded|total_slots|timings_per_token|id_slot|n_predict)\b`)

// engineDetails checks that another engine is another package, and nothing else. Tests
// may name the details of the engine that they run.
func engineDetails(reasons map[string]string) rule {
	return func(tree []source) []string {
		var violations []string
		needed := map[string]bool{}
		for _, s := range tree {
			if s.test() || slices.Contains(testPackages, s.dir()) || slices.Contains(engineHomes, s.dir()) {
				continue
			}
			for _, literal := range s.literals {
				if !engineDetail.MatchString(literal) {
					continue
				}
				excepted := false
				for folder := range reasons {
					if within(s.path, folder) {
						needed[folder], excepted = true, true
					}
				}
				if !excepted {
					violations = append(violations, fmt.Sprintf("%s has %q, a detail of llama-server: move it into supervisor/llamacpp, behind supervisor.Engine", s.path, literal))
				}
			}
		}
		for folder := range reasons {
			if !needed[folder] {
				violations = append(violations, fmt.Sprintf("%s no longer names details of llama-server: remove its exception from cmd/internal/archtest", folder))
			}
		}
		slices.Sort(violations)
		return violations
	}
}
