package browser_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/page/browser"
)

// TestDisk shows the files on disk: what they are, whether they fit, and what to add to llmsup.yaml. They are read once,
// when the view is opened, and by operators only.
func TestDisk(t *testing.T) {
	f := newFixture(t)
	tab := open(t, f, "models", browser.Look{})
	tab.AwaitText("llama-3.3-70b")
	text := strings.ReplaceAll(tab.Text(), "\u00a0", " ")
	for _, part := range []string{
		"loaded on GPU 0", "loading on GPU 0", "0.2 KiB", "needs 9.7 GiB more than GPU 0 has free", "fits GPU 0", "with a context of up to 65,536 tokens", "needs 17.9 GiB more than GPU 0 has", "2 parts", "70.6 B", "Q4_K_M", "131,072", "3.6 GiB",
		"projector (mmproj)", "unusable", "this is a text file", "context of 8,192 tokens", "/var/lib/llmsup/models",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the page lacks %q:\n%s", part, text)
		}
	}
	tab.Click("table.files details summary")
	tab.AwaitText(`model: "/srv/models/gemma-3-4b-it-q4_k_m.gguf"`)
	f.set(map[string]any{"budgets": []any{}}) // a change reads no files
	f.mu.Lock()
	f.files = f.files[:1]
	f.mu.Unlock()
	tab.Eval("[...document.querySelectorAll('main button')].find((b) => b.textContent === 'Read again').click()")
	tab.Await("document.querySelectorAll('table.files tbody tr').length === 1")
	f.mu.Lock()
	if f.filesRead != 2 {
		t.Errorf("the files were read %d times", f.filesRead)
	}
	f.mu.Unlock()
	f.set(map[string]any{"viewer": map[string]any{"key": "crawler", "operator": false, "keys": true, "commands": false, "why": "no"}})
	tab.Await("!document.querySelector('table.files')")
}

// TestDiskEmpty says where to put a file, and what to add then.
func TestDiskEmpty(t *testing.T) {
	f := newFixture(t)
	f.files = []map[string]any{}
	tab := open(t, f, "models", browser.Look{})
	for _, text := range []string{"There is no other GGUF file.", "/var/lib/llmsup/models", `model: "/var/lib/llmsup/models/NAME.gguf"`, "load: on_demand"} {
		tab.AwaitText(text)
	}
}

// TestDiskHostileNames: a name of a file is text, also in what is to be added to llmsup.yaml.
func TestDiskHostileNames(t *testing.T) {
	f := newFixture(t)
	const name = "<img src=x onerror=\"document.title='attacked'\">\n  evil: {command: [sh]}\n"
	hostile := maps.Clone(f.files[0])
	hostile["name"], hostile["path"], hostile["quantization"], hostile["uncertain"] = name, "/srv/"+name+".gguf", name, name
	broken := maps.Clone(f.files[3])
	broken["problem"] = name
	f.files = []map[string]any{hostile, broken}
	tab := open(t, f, "models", browser.Look{})
	tab.AwaitText("onerror")
	tab.Click("table.files details summary")
	tab.Await("document.querySelector('table.files pre').innerText.includes('img-src-x-onerror')")
	if tab.Eval("document.querySelector('main img') === null && !document.title.includes('attacked')") != "true" {
		t.Error("a name became a part of the page")
	}
	if lines := tab.Eval("document.querySelector('table.files pre').textContent.trim().split('\\n').length"); lines != "4" {
		t.Errorf("the lines for llmsup.yaml are %s: %s", lines, tab.Eval("document.querySelector('table.files pre').textContent"))
	}
}
