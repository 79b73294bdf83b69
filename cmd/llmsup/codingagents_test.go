package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// codingAgent is a program that runs commands which a model asks for.
type codingAgent struct {
	name    string
	program string // in node_modules; * stands for the platform
	args    []string
	config  string // the file in its home that has the snippet in router/CLIENTS.md; "" = none
	env     []string
	path    string                      // of its calls
	text    func(string) string         // the stream of a model that says something and ends
	tool    func(command string) string // the stream of a model that asks for a command
	result  string                      // where a body has what the command printed
	// summarizes: if a prompt is too long, it asks for a summary, which is a second call.
	summarizes bool
}

var codingAgents = []codingAgent{
	{
		name:    "Claude Code",
		program: "@anthropic-ai/claude-code-linux-*/claude",
		args:    []string{"-p", "say it", "--model", "local", "--allowedTools", "Bash(echo:*)"},
		env:     []string{"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1"},
		path:    "/v1/messages", text: messageText, tool: messageTool, result: "messages.@reverse.0.content.0.content",
	},
	{
		name:    "Codex",
		program: "@openai/codex-linux-*/vendor/*/bin/codex",
		args:    []string{"exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "say it"},
		config:  ".codex/config.toml",
		env:     []string{"LLMSUP_KEY=client-secret"},
		path:    "/v1/responses", text: responseText, tool: responseTool, result: "input.@reverse.0.output",
	},
	{
		name:    "opencode",
		program: "opencode-linux-*/bin/opencode",
		args:    []string{"run", "say it"},
		config:  ".config/opencode/opencode.json",
		env:     []string{"LLMSUP_KEY=client-secret", "OPENCODE_DISABLE_MODELS_FETCH=1", `OPENCODE_CONFIG_CONTENT={"autoupdate": false, "agent": {"title": {"disable": true}}}`},
		path:    "/v1/chat/completions", text: chatText, tool: chatTool("bash"), result: "messages.@reverse.0.content",
		summarizes: true,
	},
	{
		name:    "Continue",
		program: "@continuedev/cli/dist/cn.js",
		args:    []string{"--config", ".continue/config.yaml", "--auto", "-p", "say it"},
		config:  ".continue/config.yaml",
		env:     []string{"CONTINUE_TELEMETRY_ENABLED=0"},
		path:    "/v1/chat/completions", text: chatText, tool: chatTool("Bash"), result: "messages.@reverse.0.content",
	},
}

// TestCodingAgents runs one-shot tasks of coding agents through llmsup. An upstream plays the
// model, or the fallback of the demo model, whose context their prompts exceed.
func TestCodingAgents(t *testing.T) {
	t.Parallel()
	needClients(t)
	const onlyUpstream, localFirst = "{primary: lab}", "{primary: demo, fallback: lab, fallback_model: lab}"
	for _, agent := range codingAgents {
		for name, tc := range map[string]struct {
			route  string
			script []scriptedAnswer
			says   string // what it prints; "" = it fails
		}{
			"a command is run":    {onlyUpstream, []scriptedAnswer{stream(agent.tool("echo one two")), stream(agent.text("it said one two"))}, "it said one two"},
			"too long for local":  {localFirst, []scriptedAnswer{stream(agent.tool("echo one two")), stream(agent.text("it said one two"))}, "it said one two"},
			"no backend takes it": {localFirst, []scriptedAnswer{{status: 402, body: `{"type":"error","error":{"type":"insufficient_quota","message":"no credits","code":402}}`}}, ""},
		} {
			t.Run(agent.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				if tc.says == "" && agent.summarizes {
					tc.script = append(tc.script, tc.script...)
				}
				upstream := newScriptedUpstream(t, tc.script...)
				config := newTestConfig(t, "upstreams: {lab: {base_url: \""+upstream.URL+"/v1\"}}\nroutes: {local: "+tc.route+"}\n")
				args := []string{"--config", config.path}
				if tc.route == localFirst {
					args = append(args, "--demo", "--ctx-size", "256")
				}
				in := launch(t, nil, args...)
				if tc.route == localFirst {
					in.awaitReady()
				}
				code, out, errs := agent.run(t, in.url)
				if failed := tc.says == ""; (code != 0) != failed || !strings.Contains(out, tc.says) {
					t.Errorf("exit %d, it printed\n%s%s", code, out, errs)
				}
				if n := strings.Count(in.logged(), `"message":"call"`); n != len(tc.script) {
					t.Errorf("it made %d calls, want %d", n, len(tc.script))
				}
				calls := upstream.received()
				if len(calls) != len(tc.script) {
					t.Fatalf("the upstream got %d calls, want %d: %.3000v", len(calls), len(tc.script), calls[1:])
				}
				for _, call := range calls {
					if call.path != agent.path {
						t.Errorf("a call for %s", call.path)
					}
				}
				if result := gjson.Get(calls[len(calls)-1].body, agent.result).String(); tc.says != "" && !strings.Contains(result, "one two") {
					t.Errorf("the model got %q as what the command printed", result)
				}
			})
		}
	}
}

// run runs the agent in a home of its own.
func (a codingAgent) run(t *testing.T, url string) (code int, stdout, stderr string) {
	t.Helper()
	c := newClient(t, url, a.env...)
	if a.config != "" {
		c.write(a.config, snippetOf(t, a.name, strings.TrimPrefix(filepath.Ext(a.config), ".")))
	}
	programs, err := filepath.Glob(filepath.Join(c.home, "node_modules", a.program))
	if err != nil {
		t.Fatal(err)
	}
	if len(programs) == 0 {
		notRun(t, "npm has no "+a.name+" for this platform")
	}
	return c.run(append(programs[:1], a.args...)...)
}

// stream is an answer of server-sent events.
func stream(events string) scriptedAnswer {
	return scriptedAnswer{header: map[string]string{"Content-Type": "text/event-stream"}, body: events}
}

// namedEvents is a stream in which each event has the name that is its type.
func namedEvents(events ...string) string {
	var text strings.Builder
	for _, event := range events {
		fmt.Fprintf(&text, "event: %s\ndata: %s\n\n", gjson.Get(event, "type").Str, event)
	}
	return text.String()
}

// messageText is a stream of Anthropic's Messages API with a text.
func messageText(text string) string {
	return message(`{"type":"text","text":""}`, `{"type":"text_delta","text":`+quoted(text)+`}`, "end_turn")
}

// messageTool is a stream of Anthropic's Messages API that calls the tool Bash.
func messageTool(command string) string {
	input := quoted(`{"command":` + quoted(command) + `,"description":"Print it"}`)
	return message(`{"type":"tool_use","id":"toolu_1","name":"Bash","input":{}}`, `{"type":"input_json_delta","partial_json":`+input+`}`, "tool_use")
}

func message(block, delta, stop string) string {
	return namedEvents(
		`{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"lab","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":10,"output_tokens":1}}}`,
		`{"type":"content_block_start","index":0,"content_block":`+block+`}`,
		`{"type":"content_block_delta","index":0,"delta":`+delta+`}`,
		`{"type":"content_block_stop","index":0}`,
		`{"type":"message_delta","delta":{"stop_reason":"`+stop+`","stop_sequence":null},"usage":{"output_tokens":5}}`,
		`{"type":"message_stop"}`,
	)
}

// responseText is a stream of the Responses API with a text.
func responseText(text string) string {
	return response(`{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","annotations":[],"text":` + quoted(text) + `}]}`)
}

// responseTool is a stream of the Responses API that calls Codex' tool for commands.
func responseTool(command string) string {
	return response(`{"id":"fc_1","type":"function_call","call_id":"call_1","name":"exec_command","status":"completed","arguments":` + quoted(`{"cmd":`+quoted(command)+`}`) + `}`)
}

// chatText is a stream of chat completions with a text.
func chatText(text string) string { return chat(`{"content":`+quoted(text)+`}`, "stop") }

// chatTool returns what makes a stream of chat completions that calls a tool for commands.
func chatTool(name string) func(string) string {
	return func(command string) string {
		arguments := quoted(`{"command":` + quoted(command) + `,"description":"Print it"}`)
		return chat(`{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"`+name+`","arguments":`+arguments+`}}]}`, "tool_calls")
	}
}

func chat(delta, finish string) string {
	var text strings.Builder
	for _, choice := range []string{`"delta":{"role":"assistant","content":""}`, `"delta":` + delta, `"delta":{},"finish_reason":"` + finish + `"`} {
		text.WriteString(`data: {"id":"chat_1","object":"chat.completion.chunk","created":1,"model":"lab","choices":[{"index":0,` + choice + "}]}\n\n")
	}
	return text.String() + "data: [DONE]\n\n"
}

func response(item string) string {
	const common = `"id":"resp_1","object":"response","created_at":1,"model":"lab"`
	return namedEvents(
		`{"type":"response.created","sequence_number":0,"response":{`+common+`,"status":"in_progress","output":[]}}`,
		`{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":`+item+`}`,
		`{"type":"response.output_item.done","sequence_number":2,"output_index":0,"item":`+item+`}`,
		`{"type":"response.completed","sequence_number":3,"response":{`+common+`,"status":"completed","output":[`+item+`],`+
			`"usage":{"input_tokens":10,"input_tokens_details":{"cached_tokens":0},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":15}}}`,
	)
}

// quoted is a text as a JSON string.
func quoted(text string) string {
	raw, _ := json.Marshal(text) // a string has no error
	return string(raw)
}
