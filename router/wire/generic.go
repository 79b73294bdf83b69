package wire

import (
	"math/bits"

	"github.com/tidwall/gjson"
)

// Generic is the dialect of all other endpoints: embeddings, rerank and llama-server's own.
// Each JSON answer without an error is an answer. The streams are those of llama-server's
// completions: of each prompt and choice, the last event has "stop": true.
type Generic struct{ openAIErrors }

func (Generic) InspectEvent(e Event, _ bool) EventInfo {
	if len(e.Data) == 0 {
		return EventInfo{}
	}
	if IsDone(e.Data) {
		return EventInfo{Ended: true}
	}
	object := gjson.ParseBytes(e.Data)
	if failed := ErrorMessage(object); failed != "" {
		return EventInfo{Failed: failed}
	}
	m := EventInfo{Answered: HasContent(object.Get("content")), Usage: completionUsage(object)}
	if object.Get("stop").Type == gjson.True {
		m.Answered, m.Finished = true, 1<<object.Get("index").Uint()
	}
	return m
}

// completionUsage reads the usage of llama-server's completions.
func completionUsage(object gjson.Result) Usage {
	return Usage{Prompt: Count(object.Get("tokens_evaluated")), Completion: Count(object.Get("tokens_predicted"))}
}

// AllFinished returns whether a stream is complete, which has no end mark: each choice of
// each prompt that the request body asks for has ended.
func (Generic) AllFinished(body []byte, finished uint64) bool {
	if finished == 0 {
		return false
	}
	choices, prompts := int64(1), int64(1)
	Scan(body, func(m Member) {
		value := body[m.From:m.To]
		switch Unquote(string(body[m.KeyFrom:m.KeyTo])) {
		case "n", "n_cmpl":
			choices = max(choices, LenientNumber(value))
		case "prompt":
			prompts = countTasks(gjson.ParseBytes(value))
		}
	})
	return int64(bits.OnesCount64(finished)) >= choices*prompts
}

// countTasks counts the prompts of a llama-server's completion. A list of tokens, or of
// tokens and texts, is one prompt.
func countTasks(prompt gjson.Result) (n int64) {
	if !prompt.IsArray() {
		return 1
	}
	tokens := false
	prompt.ForEach(func(_, part gjson.Result) bool {
		tokens = tokens || part.Type == gjson.Number
		n++
		return !tokens
	})
	if tokens {
		return 1
	}
	return n
}

func (Generic) InspectBody(body []byte) EventInfo {
	object, failed := parseObject(body)
	if failed == NotJSON && gjson.ParseBytes(body).IsArray() && ValidJSON(body) {
		failed = "" // some of llama-server's answers are arrays
	}
	if failed != "" {
		return EventInfo{Failed: failed}
	}
	u := OpenAIUsage.In(object.Get("usage"))
	if u.Prompt != nil && u.Completion == nil {
		u.Completion = new(int64(0)) // embeddings and ranks use no completion tokens
	}
	if u.Prompt == nil {
		u = completionUsage(object)
	}
	return EventInfo{Answered: true, Ended: true, Usage: u}
}
