package router

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/wire"
)

// Events of Anthropic's streams, as llama-server writes them.
const (
	messageStart = "event: message_start\ndata: " + `{"type":"message_start","message":{"id":"msg-1","type":"message","role":"assistant","content":[],"model":"qwen","stop_reason":null,"usage":{"input_tokens":7,"output_tokens":0}}}` + "\n\n"
	blockStart   = "event: content_block_start\ndata: " + `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}` + "\n\n"
	toolStart    = "event: content_block_start\ndata: " + `{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}` + "\n\n"
	blockStop    = "event: content_block_stop\ndata: " + `{"type":"content_block_stop","index":0}` + "\n\n"
	messageDelta = "event: message_delta\ndata: " + `{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}` + "\n\n"
	messageStop  = "event: message_stop\ndata: " + `{"type":"message_stop"}` + "\n\n"
	pingEvent    = "event: ping\ndata: " + `{"type":"ping"}` + "\n\n"
)

// messageText is an event with some text.
func messageText(text string) string {
	return "event: content_block_delta\ndata: " + `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":` + wire.Quote(text) + `}}` + "\n\n"
}

// parseMessage joins the text of an Anthropic stream, and checks that it is one message:
// each of its events once, in order.
func parseMessage(t *testing.T, body string) (text, stop string, spent int64) {
	t.Helper()
	order := ""
	for line := range strings.Lines(body) {
		data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
		if !ok {
			continue
		}
		event := gjson.Parse(data)
		switch kind := event.Get("type").Str; kind {
		case "content_block_delta":
			text += event.Get("delta.text").Str
		case "ping":
		case "message_delta":
			stop, spent = event.Get("delta.stop_reason").Str, event.Get("usage.output_tokens").Int()
			order += kind + " "
		default:
			order += kind + " "
		}
	}
	if order != "message_start content_block_start content_block_stop message_delta message_stop " {
		t.Errorf("a message of %s:\n%s", order, body)
	}
	return text, stop, spent
}

// TestResumeMessages: a message that breaks is continued as a chat is.
func TestResumeMessages(t *testing.T) {
	const first = " 1, of a list that is long enough,"
	start := messageStart + blockStart + pingEvent + messageText(first) + messageText(" 2") + messageText(" 3")
	theirs := func(text ...string) http.HandlerFunc {
		events := []string{": OPENROUTER PROCESSING\n\n", strings.Replace(messageStart, "msg-1", "gen-9", 1), blockStart}
		for _, part := range text {
			events = append(events, messageText(part))
		}
		return sends(ends, append(events, blockStop, messageDelta, messageStop)...)
	}
	for name, tc := range map[string]struct {
		local, cloud http.HandlerFunc
		want         string
		spent        int64
		asked        int
	}{
		"cut":                        {sends(breaks, start), theirs(" 4", " 5"), first + " 2 3 4 5", 5, 1},
		"a clean end without a mark": {sends(ends, start), theirs(" 4"), first + " 2 3 4", 5, 1},
		"silence":                    {sends(hangs, start), theirs(" 4"), first + " 2 3 4", 5, 1},
		"it repeats all of it":       {sends(breaks, start), theirs(first, " 2 3", " 4"), first + " 2 3 4", 5, 1},
		"only the end mark was lost": {sends(breaks, start, blockStop, messageDelta), theirs(" 4"), first + " 2 3", 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			edit, acct := withLedger(t, budget.Limits{})
			b := newFixture(t, tc.local, tc.cloud, edit, withResume, stallsSoonIf(name == "silence"))
			r := b.post("/v1/messages", `{"model":"local/qwen","stream":true,"max_tokens":100,"messages":[{"role":"user","content":"count"}]}`)
			if r.status != 200 || r.readErr != nil || r.backend() != "qwen" {
				t.Fatalf("%d from %q, %v: %s", r.status, r.backend(), r.readErr, r.body)
			}
			text, stop, spent := parseMessage(t, r.body)
			if text != tc.want || stop != "end_turn" || spent != tc.spent {
				t.Errorf("%q, %s after %d tokens; want %q", text, stop, spent, tc.want)
			}
			if n := len(b.cloud.requests()); n != tc.asked {
				t.Fatalf("the cloud was asked %d times", n)
			}
			sums := usageBy(t, acct, ledger.ByRoute).Total
			if sums.Completion != tc.spent || sums.Resumed != int64(tc.asked) || sums.Partial != 0 {
				t.Errorf("in the ledger: %s", summary(sums))
			}
			if tc.asked == 0 {
				return
			}
			asked := gjson.ParseBytes(b.cloud.lastBody())
			if last := asked.Get("messages.1"); last.Get("role").Str != "assistant" || last.Get("content").Str != first+" 2 3" || asked.Get("max_tokens").Int() != 97 {
				t.Errorf("the cloud was asked %s", asked.Raw)
			}
		})
	}
}

// TestMessagesNotResumable: a message of more than one block of text ends with an error
// event.
func TestMessagesNotResumable(t *testing.T) {
	for name, tc := range map[string]struct{ local, cloud http.HandlerFunc }{
		"a tool":                 {sends(breaks, messageStart, blockStart, messageText(" 1"), blockStop, toolStart), answers},
		"thinking":               {sends(breaks, messageStart, strings.Replace(blockStart, `"text","text"`, `"thinking","thinking"`, 1), strings.ReplaceAll(messageText(" 1"), "text", "thinking")), answers},
		"its block is over":      {sends(breaks, messageStart, blockStart, messageText(" 1"), blockStop), answers},
		"the fallback calls one": {sends(breaks, messageStart, blockStart, messageText(" 1")), sends(ends, messageStart, toolStart, blockStop, messageDelta, messageStop)},
		"the fallback breaks":    {sends(breaks, messageStart, blockStart, messageText(" 1")), sends(breaks, messageStart, blockStart, messageText(" 2"))},
		"the fallback has no end": {
			sends(breaks, messageStart, blockStart, messageText(" 1")),
			sends(ends, messageStart, blockStart, messageText(" 2"), blockStop, messageStop),
		},
	} {
		b := newFixture(t, tc.local, tc.cloud, withResume)
		r := b.post("/v1/messages", `{"model":"local/qwen","stream":true,"max_tokens":100,"messages":[{"role":"user","content":"count"}]}`)
		if r.status != 200 || !strings.Contains(r.body, "event: error\n") || strings.Contains(r.body, "message_stop") {
			t.Errorf("%s: %d %q", name, r.status, r.body)
		}
	}
}
