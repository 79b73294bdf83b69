package wire

import (
	"fmt"
	"testing"
)

// TestUsageSum: a llama-server's stream of two choices has six tokens, whether its events
// report what each choice has so far (timings_per_token) or not, and whether a choice
// reports beside its finish reason, in an event of its own, or both. The events are those
// of build 11669.
func TestUsageSum(t *testing.T) {
	text := func(choice, so int) string {
		return fmt.Sprintf(`{"choices":[{"finish_reason":null,"index":%d,"delta":{"content":" 1"}}],"timings":{"predicted_n":%d}}`, choice, so)
	}
	finish := func(choice int, timings string) string {
		return fmt.Sprintf(`{"choices":[{"finish_reason":"length","index":%d,"delta":{}}]%s}`, choice, timings)
	}
	const timings = `,"timings":{"predicted_n":3}`
	const usage = `{"choices":[],"usage":{"completion_tokens":3},"timings":{"predicted_n":3}}`
	perToken := []string{text(0, 1), text(1, 1), text(0, 2), text(1, 2), text(0, 3), text(1, 3)}
	for name, events := range map[string][]string{
		"finish":           {finish(0, timings), finish(1, timings)},
		"usage":            {finish(0, ""), usage, finish(1, ""), usage},
		"finish and usage": {finish(0, timings), finish(1, timings), `{"choices":[],"usage":{"completion_tokens":6}}`},
		"tokens, finish":   append(perToken[:6:6], finish(0, timings), finish(1, timings)),
		"tokens, usage":    append(perToken[:6:6], finish(0, ""), usage, finish(1, ""), usage),
	} {
		var sum UsageSum
		var u Usage
		for _, data := range events {
			e := Event{Data: []byte(data)}
			u.Merge(sum.Add(e, Chat.InspectEvent(e, true).Usage))
		}
		if u.Completion == nil || *u.Completion != 6 {
			t.Errorf("%s: %v tokens", name, *u.Completion)
		}
	}
}
