package llamacpp

import (
	"testing"

	"github.com/rs/zerolog"
)

func TestLastError(t *testing.T) {
	for name, tc := range map[string]struct {
		lines []string
		want  string
	}{
		"nothing": {nil, ""},
		"log level E": {[]string{
			"0.00.015.248 E llama_model_load: error loading model: llama_model_loader: failed to load model from bad.gguf",
			"0.00.015.304 I srv    operator(): operator(): cleaning up before exit...",
		}, "0.00.015.248 E llama_model_load: error loading model: llama_model_loader: failed to load model from bad.gguf"},
		"bad flag":        {[]string{"error: invalid argument: --no-such-flag"}, "error: invalid argument: --no-such-flag"},
		"no error at all": {[]string{"hello", "bye"}, "bye"},
		"missing library": {[]string{"llama-server: error while loading shared libraries: libllama.so: cannot open"}, "llama-server: error while loading shared libraries: libllama.so: cannot open"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lastError(tc.lines); got != tc.want {
				t.Errorf("lastError = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestLevelOf(t *testing.T) {
	for line, want := range map[string]zerolog.Level{
		"0.00.012.096 I srv  llama_server: initializing ...": zerolog.DebugLevel,
		"0.00.284.692 W srv  llama_server: no API key":       zerolog.WarnLevel,
		"0.00.015.083 E gguf_init_from_reader: invalid":      zerolog.ErrorLevel,
		"0.00.015.083 D debug":                               zerolog.DebugLevel,
		"error: invalid argument: --x":                       zerolog.ErrorLevel,
		"warning: no usable GPU found":                       zerolog.WarnLevel,
		"main: server is listening":                          zerolog.DebugLevel,
	} {
		if got := levelOf(line); got != want {
			t.Errorf("%q has level %s, want %s", line, got, want)
		}
	}
}
