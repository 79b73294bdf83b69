package vram

import "strings"

// EnvironmentSetting returns an environment variable that changes how much VRAM
// llama-server needs, so that an estimate from its arguments is unreliable; "" = there is
// none.
func EnvironmentSetting(environ []string) string {
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
