package llamacpp

import "github.com/llmsup/llmsup/supervisor"

// Capabilities implements supervisor.Engine.
func (Engine) Capabilities(args []string) supervisor.Capabilities {
	return supervisor.Capabilities{Program: "llama-server", CompleteStreams: completeStreams(args)}
}

// completeStreams reports whether a stream has all that a whole answer has. With
// these arguments llama-server puts other fields into the one than into the other.
func completeStreams(args []string) bool {
	for _, arg := range args {
		switch arg {
		case "--reasoning-format", "-r", "--reverse-prompt":
			return false
		}
	}
	return true
}
