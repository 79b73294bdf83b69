package config

import (
	"strings"
	"testing"
)

func TestCheckKeyFile(t *testing.T) {
	for file, wrong := range map[string]string{
		"/etc/key":                               "",
		"./key":                                  "",
		"${CREDENTIALS_DIRECTORY}/openrouter":    "",
		"${CREDENTIALS_DIRECTORY}/":              "name of a credential",
		"${CREDENTIALS_DIRECTORY}/../openrouter": "name of a credential",
		"$CREDENTIALS_DIRECTORY/openrouter":      "can contain no variable but",
		"${HOME}/key":                            "can contain no variable but",
		"sk-or-1":                                "not the key itself",
	} {
		cfg, err := Parse("llmsup.yaml", []byte("upstreams:\n  x:\n    base_url: http://h/v1\n    api_key_file: "+file+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		err = cfg.Validate()
		if wrong == "" && err != nil || wrong != "" && (err == nil || !strings.Contains(err.Error(), wrong) || !strings.HasPrefix(err.Error(), "llmsup.yaml:4: ")) {
			t.Errorf("%s: %v; want %q", file, err, wrong)
		}
	}
}
