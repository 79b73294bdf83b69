package browser_test

import (
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/page/browser"
)

// fitAnswer is that of a repository with hostile names.
const fitAnswer = `{"model":"hf:org/repo","name":"A <img src=x> model","architecture":"qwen2","trained_context":32768,"ctx_size":4096,"gpus":[{"index":0}],"gpu_problem":"","choice":"Q4_K_M","choice_reason":"it is the largest that fits","variants":[
{"name":"Q4_K_M","files":["a"],"size_bytes":9000000000,"vram_need_bytes":10000000000,"uncertain":"","fits":"now","places":[{"gpus":[0],"need_bytes":1,"fits":"now","missing_bytes":0}],"largest_context":16384,"advice":"","problem":""},
{"name":"Q6_K","files":["b"],"size_bytes":12000000000,"vram_need_bytes":13000000000,"uncertain":"","fits":"later","places":[{"gpus":[0],"need_bytes":1,"fits":"later","missing_bytes":0}],"largest_context":8192,"advice":"","problem":""},
{"name":"F16","files":["c"],"size_bytes":29000000000,"vram_need_bytes":31000000000,"uncertain":"","fits":"no","places":[{"gpus":[0],"need_bytes":1,"fits":"no","missing_bytes":7516192768},{"gpus":[1],"need_bytes":1,"fits":"no","missing_bytes":9516192768}],"largest_context":0,"advice":"--n-gpu-layers 30","problem":""},
{"name":"Q2_K","files":["d"],"size_bytes":null,"vram_need_bytes":null,"uncertain":"it is new","fits":"","places":[],"largest_context":null,"advice":"","problem":"cut <b>short</b>"}]}`

// TestHub asks for a repository: each quantisation with its need, whether it fits and what to lower.
func TestHub(t *testing.T) {
	f := newFixture(t)
	f.mu.Lock()
	f.steps["fit"] = strings.ReplaceAll(fitAnswer, "\n", "")
	f.mu.Unlock()
	tab := open(t, f, "models", browser.Look{})
	tab.AwaitText("From a hub")
	tab.Eval(`(() => {
		const [ref, context] = document.querySelectorAll('section[aria-label="From a hub"] input');
		for (const [input, text] of [[ref, ' hf:org/repo '], [context, '4096']]) { input.value = text; input.dispatchEvent(new Event('input', {bubbles: true})); }
		document.querySelector('section[aria-label="From a hub"] button').click();
	})()`)
	tab.AwaitText("once other models have left")
	text := strings.ReplaceAll(tab.Text(), "\u00a0", " ")
	for _, part := range []string{
		"A <img src=x> model", "trained for 32,768 tokens", "fits GPU 0", "needs 7.0 GiB more than GPU 0 can give", "fits with --n-gpu-layers 30", "16,384", "cut <b>short</b>", "it is new",
		"a context of 4,096 tokens", "llmsup pull takes Q4_K_M: it is the largest that fits",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the page lacks %q:\n%s", part, text)
		}
	}
	tab.Eval(`document.querySelector('button[aria-label="Download hf:org/repo:Q6_K"]').click()`)
	tab.AwaitText("Download hf:org/repo:Q6_K")
	if got := f.commands(); len(got) != 2 || got[1] != `pull {"ref":"hf:org/repo:Q6_K"}` || got[0] != `fit {"ref":"hf:org/repo","ctx_size":4096}` {
		t.Errorf("it asked %q", got)
	}
}

// TestHubDenied: a viewer without the right to commands sees no form.
func TestHubDenied(t *testing.T) {
	f := newFixture(t)
	f.set(map[string]any{"viewer": map[string]any{"key": "crawler", "operator": false, "keys": true, "commands": false, "why": "no"}})
	tab := open(t, f, "models", browser.Look{})
	tab.AwaitText("qwen2.5-14b")
	if strings.Contains(tab.Text(), "From a hub") {
		t.Error("the form is shown to others than operators")
	}
}

// TestHubHostile: what a hub sends, and what a download reports, is text: in the table, in the
// reference that the button sends, and in the result.
func TestHubHostile(t *testing.T) {
	const attack = `<img src=x onerror=\"document.title='attacked'\"><script>document.title='attacked'</script>`
	f := newFixture(t)
	f.mu.Lock()
	f.steps["fit"] = `{"model":"hf:org/repo","name":"` + attack + `","architecture":"` + attack + `","trained_context":1,"ctx_size":1,"gpus":[{"index":0}],"gpu_problem":"` + attack + `","choice":"` + attack + `","choice_reason":"` + attack +
		`","variants":[{"name":"` + attack + `.gguf","files":["` + attack + `.gguf"],"size_bytes":1,"vram_need_bytes":1,"uncertain":"` + attack + `","fits":"no","places":[{"gpus":[0],"need_bytes":1,"fits":"no","missing_bytes":1}],"largest_context":0,"advice":"` + attack + `","problem":"` + attack + `"}]}`
	f.steps["pull"] = `{"at":"2026-11-30T00:00:00Z","server":"` + attack + `","step":"failed","text":"it failed: ` + attack + `"}` + "\n"
	f.mu.Unlock()
	tab := open(t, f, "models", browser.Look{})
	tab.AwaitText("From a hub")
	tab.Eval(`(() => {
		const input = document.querySelector('section[aria-label="From a hub"] input');
		input.value = 'hf:org/repo';
		input.dispatchEvent(new Event('input', {bubbles: true}));
		document.querySelector('section[aria-label="From a hub"] button').click();
	})()`)
	tab.Await(`document.querySelector('table.hub button') !== null`)
	tab.Eval(`document.querySelector('table.hub button').click()`)
	tab.AwaitText("it failed: <img src=x onerror=")
	if found := tab.Eval("document.querySelectorAll('img, main script, .results script').length"); found != "0" {
		t.Errorf("%s elements of the attack are in the page", found)
	}
	if title := tab.Eval("document.title"); strings.Contains(title, `"attacked"`) {
		t.Error("a script of the attack ran")
	}
	if got := f.commands(); len(got) != 2 || got[1] != `pull {"ref":"hf:org/repo/`+attack+`.gguf"}` {
		t.Errorf("it asked %q", got)
	}
}
