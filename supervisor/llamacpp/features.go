package llamacpp

import (
	"context"
	"strings"

	"github.com/llmsup/llmsup/supervisor/process"
)

// features is what one build of llama-server supports. Flags come and go between
// builds, so llmsup passes a flag that the user did not ask for only if the build's
// --help has it.
type features struct {
	unixSocket bool // --host takes a socket's path

	ssePingInterval bool // --sse-ping-interval
	metrics         bool // --metrics
	httpThreads     bool // --threads-http
	embeddings      bool // --embeddings
	reranking       bool // --reranking
	slotSavePath    bool // --slot-save-path
}

// readFeatures runs the program for its --help.
func readFeatures(ctx context.Context, binary string, secrets []string) (features, error) {
	help, err := process.Output(ctx, binary, []string{"--help"}, environ(secrets))
	if err != nil {
		return features{}, err
	}
	return parseFeatures(help), nil
}

func parseFeatures(help string) features {
	return features{
		// b4500 and older do not mention it; newer ones do, under --host.
		unixSocket: strings.Contains(strings.Join(strings.Fields(help), " "), "UNIX socket"),

		ssePingInterval: strings.Contains(help, "--sse-ping-interval"),
		metrics:         strings.Contains(help, "--metrics"),
		httpThreads:     strings.Contains(help, "--threads-http"),
		embeddings:      strings.Contains(help, "--embeddings"),
		reranking:       strings.Contains(help, "--reranking"),
		slotSavePath:    strings.Contains(help, slotSavePath),
	}
}
