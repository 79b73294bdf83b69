package llamacpp

import "github.com/llmsup/llmsup/models"

// Capabilities implements supervisor.Engine.
func (Engine) Capabilities(args []string) models.Capabilities {
	return models.Capabilities{Program: "llama-server", CompleteStreams: completeStreams(args), Fields: fields}
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
