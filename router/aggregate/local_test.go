package aggregate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// Pieces of streams as build 11669 writes them, with shorter ids and timings.
const (
	chatHead = `"created":1,"id":"i","model":"demo","system_fingerprint":"b","object":"chat.completion.chunk"`
	textHead = `"created":1,"model":"demo","system_fingerprint":"b","object":"text_completion","id":"i"`
	doneLine = "data: [DONE]\n\n"
)

func timed(n int) string { return fmt.Sprintf(`,"timings":{"prompt_n":4,"predicted_n":%d}`, n) }

func delta(choice int, delta string, rest string) string {
	return fmt.Sprintf("data: {\"choices\":[{\"finish_reason\":null,\"index\":%d,\"delta\":%s}],%s%s}\n\n", choice, delta, chatHead, rest)
}

// chatEnd is a chat's last delta, and its usage.
func chatEnd(choice int, why string, n int) string {
	return fmt.Sprintf("data: {\"choices\":[{\"finish_reason\":%q,\"index\":%d,\"delta\":{}}],%s}\n\n", why, choice, chatHead) +
		fmt.Sprintf("data: {\"choices\":[],%s,\"usage\":{\"completion_tokens\":%d,\"prompt_tokens\":4,\"total_tokens\":%d,\"prompt_tokens_details\":{\"cached_tokens\":0}}%s}\n\n", chatHead, n, n+4, timed(n))
}

func part(choice int, text string, n int) string {
	return fmt.Sprintf("data: {\"choices\":[{\"text\":%q,\"index\":%d,\"logprobs\":null,\"finish_reason\":null}],%s%s}\n\n", text, choice, textHead, timed(n))
}

func textEnd(choice int, why string, n int) string {
	return fmt.Sprintf("data: {\"choices\":[{\"text\":\"\",\"index\":%d,\"logprobs\":null,\"finish_reason\":%q}],%s,\"usage\":{\"completion_tokens\":%d}%s}\n\n", choice, why, textHead, n, timed(n))
}

// chatAnswer is what is around a chat's choices.
func chatAnswer(n int, choices string) string {
	return fmt.Sprintf(`{"choices":[%s],"created":1,"model":"demo","system_fingerprint":"b","object":"chat.completion",`+
		`"usage":{"completion_tokens":%d,"prompt_tokens":4,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":0}},"id":"i"%s}`, choices, n, n+4, timed(n))
}

func textAnswer(n int, choices string) string {
	return fmt.Sprintf(`{"choices":[%s],"created":1,"model":"demo","system_fingerprint":"b","object":"text_completion","usage":{"completion_tokens":%d},"id":"i"%s}`, choices, n, timed(n))
}

const role = `{"role":"assistant","content":null}`

var (
	plainChat  = Form{chat: true, choices: 1}
	twoChats   = Form{chat: true, choices: 2}
	stopsChat  = Form{chat: true, choices: 1, stops: true}
	plainText  = Form{choices: 1}
	simpleChat = delta(0, role, "") + delta(0, `{"content":" 1"}`, timed(1)) + delta(0, `{"content":" 2"}`, timed(2)) + chatEnd(0, "length", 2) + doneLine
)

func TestAssemble(t *testing.T) {
	for name, tc := range map[string]struct {
		form   Form
		stream string
		want   string
	}{
		"content": {plainChat, simpleChat, chatAnswer(2, `{"finish_reason":"length","index":0,"message":{"role":"assistant","content":" 1 2"}}`)},
		"pings":   {plainChat, ": ping\n\n" + strings.ReplaceAll(simpleChat, "\n\n", "\n\n:\n\n"), chatAnswer(2, `{"finish_reason":"length","index":0,"message":{"role":"assistant","content":" 1 2"}}`)},
		"CRLF":    {plainChat, strings.ReplaceAll(simpleChat, "\n", "\r\n"), chatAnswer(2, `{"finish_reason":"length","index":0,"message":{"role":"assistant","content":" 1 2"}}`)},
		"the last line end is cut off": {
			plainChat, strings.TrimSuffix(simpleChat, "\n\n"),
			chatAnswer(2, `{"finish_reason":"length","index":0,"message":{"role":"assistant","content":" 1 2"}}`),
		},
		"nothing": {plainChat, delta(0, role, timed(1)) + chatEnd(0, "stop", 1) + doneLine, chatAnswer(1, `{"finish_reason":"stop","index":0,"message":{"role":"assistant","content":""}}`)},
		"escapes, and a pair of surrogates over two events": {
			plainChat, delta(0, `{"content":"\"\\\n\ud83d"}`, timed(1)) + delta(0, `{"content":"\ude00é"}`, timed(2)) + chatEnd(0, "stop", 3) + doneLine,
			chatAnswer(3, `{"finish_reason":"stop","index":0,"message":{"role":"assistant","content":"\"\\\n😀é"}}`),
		},
		"reasoning": {
			plainChat, delta(0, role, "") + delta(0, `{"reasoning_content":"a"}`, timed(4)) + delta(0, `{"reasoning_content":" b"}`, timed(5)) + delta(0, `{"content":"c"}`, timed(9)) + chatEnd(0, "stop", 10) + doneLine,
			chatAnswer(10, `{"finish_reason":"stop","index":0,"message":{"role":"assistant","content":"c","reasoning_content":"a b"}}`),
		},
		"a tool call over several events": {
			plainChat, delta(0, role, "") +
				delta(0, `{"tool_calls":[{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":"{"}}]}`, timed(9)) +
				delta(0, `{"tool_calls":[{"index":0,"function":{"arguments":"\"a\":"}}]}`, timed(12)) +
				delta(0, `{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}`, timed(13)) +
				delta(0, `{"tool_calls":[{"index":1,"id":"y","type":"function","function":{"name":"g","arguments":""}}]}`, "") + chatEnd(0, "tool_calls", 20) + doneLine,
			chatAnswer(20, `{"finish_reason":"tool_calls","index":0,"message":{"role":"assistant","content":"","tool_calls":[`+
				`{"type":"function","function":{"name":"f","arguments":"{\"a\":1}"},"id":"x"},{"type":"function","function":{"name":"g","arguments":""},"id":"y"}]}}`),
		},
		"two choices, the second one first": {
			twoChats, delta(1, `{"content":"b"}`, timed(1)) + chatEnd(1, "stop", 9) + delta(0, `{"content":"a"}`, timed(1)) + chatEnd(0, "stop", 2) + doneLine,
			chatAnswer(2, `{"finish_reason":"stop","index":0,"message":{"role":"assistant","content":"a"}},{"finish_reason":"stop","index":1,"message":{"role":"assistant","content":"b"}}`),
		},
		"an unknown field beside the usage": {
			plainChat, strings.Replace(simpleChat, `"usage"`, `"carbon":{"g":1},"usage"`, 1),
			strings.TrimSuffix(chatAnswer(2, `{"finish_reason":"length","index":0,"message":{"role":"assistant","content":" 1 2"}}`), "}") + `,"carbon":{"g":1}}`,
		},
		"a text": {plainText, part(0, " 6", 1) + part(0, " 7", 2) + textEnd(0, "length", 2) + doneLine, textAnswer(2, `{"text":" 6 7","index":0,"logprobs":null,"finish_reason":"length"}`)},
		"logprobs": {
			plainText, strings.ReplaceAll(part(0, " 6", 1), `"logprobs":null`, `"logprobs":{"content":[{"id":1,"logprob":0.0}]}`) +
				strings.ReplaceAll(part(0, "", 2), `"logprobs":null`, `"logprobs":{"content":[{"id":2,"logprob":-1e-9}]}`) + textEnd(0, "stop", 2) + doneLine,
			textAnswer(2, `{"text":" 6","index":0,"logprobs":{"content":[{"id":1,"logprob":0.0},{"id":2,"logprob":-1e-9}]},"finish_reason":"stop"}`),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := put(tc.form, strings.NewReader(tc.stream))
			if err != nil {
				t.Fatal(err)
			}
			var a, b any
			if err := errors.Join(json.Unmarshal([]byte(got), &a), json.Unmarshal([]byte(tc.want), &b)); err != nil || !reflect.DeepEqual(a, b) {
				t.Errorf("%v\ngot  %s\nwant %s", err, got, tc.want)
			}
		})
	}
}

func TestAssembleRefuses(t *testing.T) {
	one := delta(0, `{"content":"a"}`, timed(1))
	failed := &LocalError{}
	for name, tc := range map[string]struct {
		form   Form
		stream string
		want   error
	}{
		"no end mark":               {plainChat, strings.TrimSuffix(simpleChat, doneLine), ErrTruncated},
		"nothing":                   {plainChat, "", ErrTruncated},
		"a half event":              {plainChat, simpleChat[:len(simpleChat)-60], ErrTruncated},
		"no finish reason":          {plainChat, one + doneLine, ErrUnknownFormat},
		"no usage":                  {plainChat, strings.Split(simpleChat, `data: {"choices":[],`)[0] + doneLine, ErrUnknownFormat},
		"no second choice":          {twoChats, simpleChat, ErrUnknownFormat},
		"an error":                  {plainChat, one + "data: {\"error\":{\"code\":500,\"message\":\"m\"}}\n\n", failed},
		"an error in plain words":   {plainChat, one + "event: error\ndata: {\"error\":\"m\"}\n\n", failed},
		"no JSON":                   {plainChat, "data: {\n\n", ErrUnknownFormat},
		"an array":                  {plainChat, "data: []\n\n", ErrUnknownFormat},
		"deep":                      {plainChat, "data: {\"choices\":" + strings.Repeat("[", 3_000_000) + strings.Repeat("]", 3_000_000) + "}\n\n", ErrUnknownFormat},
		"a named event":             {plainChat, "event: x\n" + one, ErrUnknownFormat},
		"the other dialect":         {plainText, one, ErrUnknownFormat},
		"an unknown field":          {plainChat, strings.Replace(one, `"id"`, `"__verbose":{},"id"`, 1), ErrUnknownFormat},
		"an unknown field of one":   {plainChat, strings.Replace(one, `"index"`, `"x":1,"index"`, 1), ErrUnknownFormat},
		"an unknown delta":          {plainChat, delta(0, `{"refusal":null}`, ""), ErrUnknownFormat},
		"a delta that is text":      {plainChat, delta(0, `"a"`, ""), ErrUnknownFormat},
		"content in parts":          {plainChat, delta(0, `{"content":[]}`, ""), ErrUnknownFormat},
		"another role":              {plainChat, delta(0, `{"role":"user"}`, ""), ErrUnknownFormat},
		"logprobs of a chat":        {plainChat, strings.Replace(one, `"index"`, `"logprobs":null,"index"`, 1), ErrUnknownFormat},
		"logprobs of another kind":  {plainText, strings.Replace(part(0, "a", 1), `"logprobs":null`, `"logprobs":{"tokens":[]}`, 1), ErrUnknownFormat},
		"two choices in an event":   {twoChats, strings.Replace(one, `"choices":[`, `"choices":[{},`, 1), ErrUnknownFormat},
		"no choice in an event":     {plainChat, "data: {\"choices\":[]," + chatHead + "}\n\n", ErrUnknownFormat},
		"no choices in an event":    {plainChat, "data: {" + chatHead + "}\n\n", ErrUnknownFormat},
		"choices that are none":     {plainChat, "data: {\"choices\":{}," + chatHead + "}\n\n", ErrUnknownFormat},
		"a choice too many":         {plainChat, delta(1, `{"content":"a"}`, ""), ErrUnknownFormat},
		"a negative choice":         {plainChat, delta(-1, `{"content":"a"}`, ""), ErrUnknownFormat},
		"usage before the end":      {plainChat, one + strings.Split(simpleChat, "\n\n")[4] + "\n\n", ErrUnknownFormat},
		"usage twice":               {plainChat, simpleChat[:len(simpleChat)-len(doneLine)] + strings.Split(simpleChat, "\n\n")[4] + "\n\n", ErrUnknownFormat},
		"usage that is none":        {plainChat, strings.Replace(simpleChat, `"usage":{`, `"usage":[],"x":{`, 1), ErrUnknownFormat},
		"on after a choice's end":   {plainChat, one + chatEnd(0, "stop", 2) + one, ErrUnknownFormat},
		"on after the end":          {plainChat, simpleChat + one, ErrUnknownFormat},
		"a tool call without a 1st": {plainChat, delta(0, `{"tool_calls":[{"index":1,"id":"x","function":{"name":"f"}}]}`, ""), ErrUnknownFormat},
		"a tool call of a new kind": {plainChat, delta(0, `{"tool_calls":[{"index":0,"id":"x","type":"custom"}]}`, ""), ErrUnknownFormat},
		"a tool call renamed":       {plainChat, strings.Repeat(delta(0, `{"tool_calls":[{"index":0,"id":"x","function":{"name":"f"}}]}`, ""), 2), ErrUnknownFormat},
		"a tool call without name":  {plainChat, delta(0, `{"tool_calls":[{"index":0,"id":"x"}]}`, "") + chatEnd(0, "stop", 3) + doneLine, ErrUnknownFormat},
		"tags and no text":          {plainChat, delta(0, role, timed(1)) + chatEnd(0, "stop", 16) + doneLine, ErrNotSame},
		"a stop string that began":  {stopsChat, one + chatEnd(0, "length", 3) + doneLine, ErrNotSame},
		"the same in a text":        {plainText, part(0, "a", 1) + part(0, "", 2) + textEnd(0, "length", 2) + doneLine, ErrNotSame},
		"a character that began":    {plainText, part(0, "a", 1) + textEnd(0, "length", 2) + doneLine, ErrNotSame},
		"a token without logprobs":  {Form{choices: 1, logprobs: true}, part(0, "a", 1), ErrNotSame},
		"too long":                  {plainChat, strings.Repeat(delta(0, `{"content":"`+strings.Repeat("x", 8<<20)+`"}`, ""), 5), ErrTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := put(tc.form, strings.NewReader(tc.stream))
			if as := (*LocalError)(nil); errors.Is(tc.want, failed) && errors.As(err, &as) && strings.HasSuffix(err.Error(), ": m") && as.Status == 500 {
				return
			}
			if !errors.Is(err, tc.want) || got != "" {
				t.Errorf("%v, %s; want %v", err, wire.Shorten(got), tc.want)
			}
		})
	}
}

func TestSoFar(t *testing.T) {
	feed := func(s Form, stream string) Partial {
		a, events := newLocalAggregator(s), wire.NewEventReader(strings.NewReader(stream))
		for e, err := events.Next(); err == nil && a.Add(e) == nil; e, err = events.Next() {
		}
		return a.Partial()
	}
	for name, tc := range map[string]struct{ got, want Partial }{
		"nothing": {feed(plainChat, ""), Partial{}},
		"text": {
			feed(plainChat, delta(0, role, "")+delta(0, `{"content":"\"é\u00e9"}`, timed(3))+"data: {\"cho"),
			Partial{Text: `"éé`, Tokens: 3},
		},
		"after an error": {
			feed(plainChat, delta(0, `{"content":"a"}`, timed(3))+"data: {\"error\":{\"code\":500}}\n\n"), Partial{Text: `a`, Tokens: 3},
		},
		"finished":  {feed(plainChat, strings.TrimSuffix(simpleChat, doneLine)), Partial{Text: ` 1 2`, Tokens: 2, Finished: true}},
		"reasoning": {feed(plainChat, delta(0, `{"reasoning_content":"a"}`, timed(3))), Partial{Reasoning: "a", Tokens: 3}},
		"a call": {
			feed(plainChat, delta(0, `{"content":"a"}`, timed(1))+delta(0, `{"tool_calls":[{"index":0,"id":"x","function":{"name":"f"}}]}`, timed(4))),
			Partial{Text: "a", Tokens: 4, HasToolCall: true},
		},
		"two choices": {feed(twoChats, delta(0, `{"content":"a"}`, timed(1))+delta(1, `{"content":"b"}`, timed(2))), Partial{Text: "a", Tokens: 3, MultipleChoices: true}},
		"logprobs": {
			feed(plainText, strings.Replace(part(0, "a", 1), `"logprobs":null`, `"logprobs":{"content":[{}]}`, 1)), Partial{Text: "a", Tokens: 1, Logprobs: true},
		},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, tc.got, tc.want)
		}
	}
}

// FuzzAssemble: whatever comes, an answer is JSON with all its choices, and a
// stream that lacks its end gives none.
func FuzzAssemble(f *testing.F) {
	f.Add(simpleChat, true, false, uint8(1))
	f.Add(strings.Split(simpleChat, "data: [DONE]")[0], true, true, uint8(1))
	f.Add(part(0, "a", 1)+textEnd(0, "stop", 1)+doneLine, false, false, uint8(1))
	f.Add(delta(0, `{"tool_calls":[{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":"{"}}]}`, timed(9))+chatEnd(0, "tool_calls", 20)+doneLine, true, false, uint8(1))
	f.Add("event: error\r\ndata: {\"error\":{}}\r\n\r\n", true, false, uint8(2))
	f.Fuzz(func(t *testing.T, stream string, isChat, stops bool, choices uint8) {
		form := Form{chat: isChat, stops: stops, choices: int(choices)%4 + 1}
		feed := func(stream string) (*formAggregator, []byte, error) {
			a, events := newLocalAggregator(form), wire.NewEventReader(strings.NewReader(stream))
			for {
				e, err := events.Next()
				if err != nil {
					break
				}
				if err := a.Add(e); err != nil {
					break
				}
			}
			whole, err := a.Result()
			return a, whole, err
		}
		a, whole, err := feed(stream)
		_ = a.Partial()
		if err != nil {
			if whole != nil {
				t.Fatalf("%v and %s", err, whole)
			}
			return
		}
		if !wire.ValidJSON(whole) || len(gjson.GetBytes(whole, "choices").Array()) != form.choices {
			t.Fatalf("no answer: %s", whole)
		}
		end := strings.LastIndex(stream, "[DONE]")
		if end < 0 {
			t.Fatalf("no end, but %s", whole)
		}
		for cut := end + len("[DONE]") - 1; cut >= 0; cut -= 1 + cut/8 {
			if _, whole, err := feed(stream[:cut]); err == nil && !bytes.Contains([]byte(stream[:cut]), []byte("[DONE]")) {
				t.Fatalf("cut at %d, but %s", cut, whole)
			}
		}
	})
}

// put returns what an aggregator makes of a stream.
func put(s Form, stream io.Reader) (string, error) {
	a, events := s.Aggregator(), wire.NewEventReader(stream)
	for {
		e, err := events.Next()
		if err == nil {
			err = a.Add(e)
		}
		if errors.Is(err, io.EOF) {
			whole, err := a.Result()
			return string(whole), err
		}
		if err != nil {
			return "", err
		}
	}
}
