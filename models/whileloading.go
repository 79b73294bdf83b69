package models

import (
	"time"

	"go.yaml.in/yaml/v3"
)

// WhileLoading is how long a call waits for its route's primary while that is a server whose
// model is being loaded; then the call goes to the route's fallback. 0 = it does not wait.
type WhileLoading time.Duration

// WaitForTimeout makes a call wait for as long as the route's timeout allows.
const WaitForTimeout WhileLoading = -1

// UnmarshalYAML reads fallback, wait or a duration.
func (w *WhileLoading) UnmarshalYAML(node *yaml.Node) error {
	switch node.Value {
	case "fallback":
		*w = 0
		return nil
	case "wait":
		*w = WaitForTimeout
		return nil
	}
	limit, err := time.ParseDuration(node.Value)
	if err != nil || limit <= 0 {
		return &ValueError{node.Line, "fallback, wait, or a duration above 0 (example: 10s)"}
	}
	*w = WhileLoading(limit)
	return nil
}

// String returns the value as in a configuration file.
func (w WhileLoading) String() string {
	switch w {
	case 0:
		return "fallback"
	case WaitForTimeout:
		return "wait"
	}
	return time.Duration(w).String()
}
