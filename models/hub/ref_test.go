package hub

import (
	"strings"
	"testing"
)

func TestParseRef(t *testing.T) {
	for text, want := range map[string]Ref{
		"hf:Qwen/Qwen2.5-14B-Instruct-GGUF":                      {Org: "Qwen", Repo: "Qwen2.5-14B-Instruct-GGUF"},
		"hf:Qwen/Qwen2.5-14B-Instruct-GGUF:Q4_K_M":               {Org: "Qwen", Repo: "Qwen2.5-14B-Instruct-GGUF", Quant: "Q4_K_M"},
		"hf:a/b:q8_0@refs/pr/1":                                  {Org: "a", Repo: "b", Quant: "Q8_0", Revision: "refs/pr/1"},
		"hf:a/b@0123456789abcdef0123456789abcdef01234567":        {Org: "a", Repo: "b", Revision: "0123456789abcdef0123456789abcdef01234567"},
		"hf:unsloth/x:UD-Q4_K_XL":                                {Org: "unsloth", Repo: "x", Quant: "UD-Q4_K_XL"},
		"hf:a/b/BF16/m-BF16-00001-of-00002.gguf":                 {Org: "a", Repo: "b", File: "BF16/m-BF16-00001-of-00002.gguf"},
		"https://huggingface.co/a/b":                             {Org: "a", Repo: "b"},
		"https://hf.co/a/b":                                      {Org: "a", Repo: "b"},
		"https://huggingface.co/a/b/resolve/main/m.gguf":         {URL: "https://huggingface.co/a/b/resolve/main/m.gguf"},
		"https://host:8443/path/m.gguf?download=true#top":        {URL: "https://host:8443/path/m.gguf?download=true"},
		"http://127.0.0.1/Model.Q4_K_M-00001-of-00003.GGUF":      {URL: "http://127.0.0.1/Model.Q4_K_M-00001-of-00003.GGUF"},
		"hf://a/b:Q4_K_M":                                        {Org: "a", Repo: "b", Quant: "Q4_K_M"},
		"hf:01-ai/Yi-1.5_34B":                                    {Org: "01-ai", Repo: "Yi-1.5_34B"},
		"https://huggingface.co/a/b/blob/main/sub/m-Q4_K_M.gguf": {URL: "https://huggingface.co/a/b/blob/main/sub/m-Q4_K_M.gguf"},
	} {
		got, err := ParseRef(text)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
			continue
		}
		if again, err := ParseRef(got.String()); err != nil || again != got {
			t.Errorf("%s: its String is %s, which is %+v, %v", text, got, again, err)
		}
	}
	for text, want := range map[string]string{
		"":                                "is empty",
		"qwen":                            "is not a reference",
		"hf:qwen":                         "does not name a repository",
		"hf:/b":                           "does not name a repository",
		"hf:../b":                         "does not name a repository",
		"hf:a/..":                         "does not name a repository",
		"hf:a/b:":                         "does not name a quantisation",
		"hf:a/b:Q4/K":                     "does not name a quantisation",
		"hf:a/b@":                         "does not name a revision",
		"hf:a/b@../../x":                  "does not name a revision",
		"hf:a/b/c":                        "does not name a .gguf file",
		"hf:a/b/../c.gguf":                "does not name a .gguf file",
		"hf:a/b/.c.gguf":                  "does not name a .gguf file",
		"hf:a/b/c.gguf:Q4_K_M":            "both a file and a quantisation",
		"https://":                        "is not a URL",
		"https://host/model.bin":          "does not end in the name of a .gguf file",
		"https://user:secret@host/m.gguf": "has a user name or password",
		"https://host/%2e%2e%2fm.gguf/..": "does not end in the name",
		"ftp://host/m.gguf":               "is not a reference",
	} {
		if got, err := ParseRef(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %+v, %v; want %q", text, got, err, want)
		}
	}
}
