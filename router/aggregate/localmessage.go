package aggregate

import (
	"errors"
	"fmt"
	"maps"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// streamableMessages and streamableResponses are the streamable fields of /v1/messages and
// /v1/responses. Besides the fields that were not tested, they lack "stop" of responses,
// whose streams do not show that they withhold a possible stop string, and "n", which makes
// the answer a list.
var (
	streamableMessages = map[string]func(gjson.Result, bool) bool{
		"model": anyValue, "stream": streamable["stream"], "max_tokens": anyValue,
		"messages": func(v gjson.Result, _ bool) bool { return awaitsAnswer(v) },
		"system":   anyValue, "stop_sequences": anyValue, "temperature": anyValue, "top_p": anyValue, "top_k": anyValue,
		"tools": anyValue, "tool_choice": anyValue, "thinking": anyValue, "metadata": anyValue, "service_tier": anyValue,
		"chat_template_kwargs": anyValue,
	}
	streamableResponses = responsesFields()
)

func responsesFields() map[string]func(gjson.Result, bool) bool {
	fields := maps.Clone(streamable)
	for _, other := range []string{
		"messages", "prompt", "max_tokens", "max_completion_tokens", "response_format", "reasoning_effort", "reasoning_format", "n", "stop", "logprobs",
	} {
		delete(fields, other)
	}
	for _, name := range []string{
		"instructions", "max_output_tokens", "tools", "tool_choice", "parallel_tool_calls", "chat_template_kwargs",
		"text", "reasoning", "truncation",
	} {
		fields[name] = anyValue
	}
	fields["input"] = func(v gjson.Result, _ bool) bool { return v.Type == gjson.String || inputAwaitsAnswer(v) }
	return fields
}

// inputAwaitsAnswer reports whether the input of responses ends with an item that is to be
// answered: a message that is not the assistant's, or the output of a function.
func inputAwaitsAnswer(input gjson.Result) bool {
	if !input.IsArray() {
		return false
	}
	var last gjson.Result
	input.ForEach(func(_, item gjson.Result) bool { last = item; return true })
	return awaitsAnswer(gjson.Parse("["+last.Raw+"]")) || last.Get("type").Str == "function_call_output" && !last.Get("role").Exists()
}

// Aggregator returns an aggregator for the stream that llama-server sends in answer to the
// form.
func (s Form) Aggregator() Aggregator {
	switch s.path {
	case "/v1/messages":
		a := &messageAggregator{}
		return &localAggregator{Aggregator: a, asWhole: func(whole []byte) ([]byte, error) { return whole, a.checkMissing(whole, s.stops) }}
	case "/v1/responses":
		return &localAggregator{Aggregator: &responseAggregator{}, asWhole: localResponse}
	}
	return newLocalAggregator(s)
}

// localAggregator is an aggregator for a stream that the router requested from a local
// server. If its result would differ from the server's non-streaming answer, it returns an
// error, and the call is sent again without streaming.
type localAggregator struct {
	Aggregator
	asWhole func(whole []byte) ([]byte, error) // adds what a stream lacks, or returns an error
}

func (a *localAggregator) Add(e wire.Event) error {
	err := a.Aggregator.Add(e)
	var failed *UpstreamError
	switch {
	case errors.As(err, &failed):
		data := string(e.Data)
		if wire.ErrorMessage(gjson.Parse(data)) == "" { // as in a stream of /v1/messages
			data = `{"error":` + data + `}`
		}
		return localError(data)
	case errors.Is(err, errNoStart): // llama-server omits it if the first token is a part of a character
		return fmt.Errorf("%w: %w", ErrNotSame, err)
	case errors.Is(err, ErrUnmergeable):
		return fmt.Errorf("%w: %w", ErrUnknownFormat, err)
	}
	return err
}

func (a *localAggregator) Result() ([]byte, error) {
	whole, err := a.Aggregator.Result()
	if errors.Is(err, ErrUnmergeable) { // for example, a truncated tool call
		return nil, fmt.Errorf("%w: %w", ErrNotSame, err)
	}
	if err != nil {
		return nil, err
	}
	return a.asWhole(whole)
}

func (a *localAggregator) ResultAtLimit() (whole []byte, ok bool) {
	if whole, ok = a.Aggregator.ResultAtLimit(); !ok {
		return nil, false
	}
	whole, err := a.asWhole(whole)
	return whole, err == nil
}

// checkMissing returns an error if a whole answer would have more content. A stream
// withholds a possible stop string, and the first bytes of a character. Such bytes at the
// end of a truncated answer are the only difference that is not detected.
func (a *messageAggregator) checkMissing(whole []byte, stops bool) error {
	tokens := wire.Count(gjson.GetBytes(whole, "usage.output_tokens"))
	cut := a.stopReason() == "max_tokens"
	switch {
	case tokens == nil:
		return fmt.Errorf("%w: the message has no usage", ErrUnknownFormat)
	case stops && cut && a.deltas != *tokens:
		return fmt.Errorf("%w: the answer ends in a possible stop string", ErrNotSame)
	case len(a.blocks) == 0 && (cut || stops || *tokens > 1):
		return fmt.Errorf("%w: the answer has tokens but no text", ErrNotSame)
	}
	return nil
}

// localResponse returns the response of a llama-server stream with the fields that only
// its whole answers have.
func localResponse(whole []byte) ([]byte, error) {
	answer := gjson.ParseBytes(whole)
	created, output := answer.Get("created_at"), answer.Get("output")
	switch {
	case !created.Exists() || answer.Get("completed_at").Exists() || !output.IsArray() || !answer.Get("usage").IsObject():
		return nil, fmt.Errorf("%w: the response has other fields", ErrUnknownFormat)
	case !wire.HasContent(output):
		return nil, fmt.Errorf("%w: the answer has tokens but no text", ErrNotSame)
	}
	changes := []wire.Edit{{From: created.Index, To: created.Index, Text: created.Raw + `,"completed_at":`}}
	output.ForEach(func(_, item gjson.Result) bool {
		if item.Get("type").Str == "reasoning" && !item.Get("status").Exists() {
			end := item.Index + len(item.Raw) - 1
			changes = append(changes, wire.Edit{From: end, To: end, Text: `,"status":"completed"`})
		}
		return true
	})
	return []byte(wire.Apply(string(whole), changes)), nil
}
