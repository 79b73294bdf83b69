package main

import (
	"fmt"
	"path/filepath"
	"testing"
)

// TestNodeResponses runs SDKs from npm that call /v1/responses against real llama-servers
// whose models count, think, call a tool and fail.
func TestNodeResponses(t *testing.T) {
	t.Parallel()
	needClients(t)
	template, err := filepath.Abs("testdata/clients/tools.jinja")
	if err != nil {
		t.Fatal(err)
	}
	server := func(name, args string) string {
		return fmt.Sprintf("  %s: {model: %q, args: [--jinja, --chat-template-file, %q%s]}\n", name, demoModel(t), template, args)
	}
	config := newTestConfig(t, "servers:\n"+
		server("counts", "")+
		server("thinks", `, --grammar, 'root ::= "<think>a b </think> c"'`)+
		server("calls", `, --logit-bias, 2+100, --logit-bias, 129+95, --logit-bias, 13-100`)+ // a tool call, where one is required
		server("fails", `, --ignore-eos, --grammar, 'root ::= "abc"'`))
	in := launch(t, nil, "--config", config.path)
	in.awaitReady()
	for name, want := range map[string]string{"openai-responses": openAIResponses, "ai-sdk-responses": aiSDKResponses} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := newClient(t, in.url).script(name + ".mjs"); got != want {
				t.Errorf("it printed\n%swant\n%s", got, want)
			}
		})
	}
}

const openAIResponses = `text {"events":"created in_progress output_item.added content_part.added output_text.delta output_text.done content_part.done output_item.done completed","inOrder":true,"output":[["message","1 2 3 4 5 6"]],"text":"1 2 3 4 5 6","whole":["1 2 3 4 5 6",0,null]}
emoji {"events":"created in_progress output_item.added content_part.added output_text.delta output_text.done content_part.done output_item.done completed","inOrder":true,"output":[["message","😀 hello"]],"text":"😀 hello","whole":["😀 hello",0,null]}
nothing {"events":"created in_progress completed","inOrder":true,"output":[],"text":"","whole":["",0,null]}
reasoning {"events":"created in_progress output_item.added content_part.added reasoning_text.delta output_text.delta reasoning_text.done content_part.done output_item.done output_text.done completed","inOrder":true,"output":[["reasoning","a b "],["message"," c"]],"text":" c","whole":[" c",0,null]}
tool {"events":"created in_progress output_item.added function_call_arguments.delta function_call_arguments.done output_item.done completed","inOrder":true,"output":[["function_call","Zürich"]],"text":"","args":"Zürich","whole":["",1,null]}
error ["APIError","server_error"]
`

// The AI SDK shows summaries of reasoning, and no reasoning text.
const aiSDKResponses = `text [[[["text","1 2 3 4 5 6"]]],"stop",6]
textStream ["start start-step text-start text-delta text-end finish-step finish",[[["text","1 2 3 4 5 6"]]],"stop",6]
reasoning [[[["reasoning",""],["text"," c"]]],"stop",22]
reasoningStream ["start start-step reasoning-start text-start text-delta reasoning-end text-end finish-step finish",[[["reasoning",""],["text"," c"]]],"stop",22]
tool [[[["tool-call","Zürich"],["tool-result","Zürich: 12"]],[["tool-call","Zürich"],["tool-result","Zürich: 12"]]],"tool-calls",65]
toolStream ["start start-step tool-input-start tool-input-delta tool-input-end tool-call tool-result finish-step finish",[[["tool-call","Zürich"],["tool-result","Zürich: 12"]],[["tool-call","Zürich"],["tool-result","Zürich: 12"]]],"tool-calls",65]
error ["AI_APICallError",500]
errorStream ["start start-step text-start text-delta error","AI_APICallError","Failed to process successful response"]
errorErrors ["got exception: Unexpected empty grammar stack after accepting piece: # (38)"]
chat with local ["1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30","1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30"]
chat with local/thinks [" c"," c"]
`
