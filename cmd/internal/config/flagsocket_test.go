package config

import (
	"strings"
	"testing"
)

func TestListenOn(t *testing.T) {
	cases := map[string]struct {
		file, flag, socket string
		ignored            string
		wrong              string // what Validate says
	}{
		"the default":              {"", "", "127.0.0.1:9000", "", ""},
		"the same":                 {"listen: 127.0.0.1:9000", "", "127.0.0.1:9000", "", ""},
		"the same by name":         {"listen: localhost:9000", "", "127.0.0.1:9000", "", ""},
		"another port":             {"listen: 127.0.0.1:8000", "", "127.0.0.1:9000", "127.0.0.1:8000", ""},
		"another address":          {"listen: 127.0.0.2:9000", "", "127.0.0.1:9000", "127.0.0.2:9000", ""},
		"a flag":                   {"", "127.0.0.1:8000", "127.0.0.1:9000", "127.0.0.1:8000", ""},
		"all addresses, no keys":   {"", "", "[::]:9000", "", "other machines can reach \"[::]:9000\""},
		"not what the file thinks": {"listen: 127.0.0.1:9000", "", "[::]:9000", "127.0.0.1:9000", "other machines can reach"},
		"all, and keys":            {"listen: 0.0.0.0:9000\nkeys: {a: " + strings.Repeat("ab", 32) + "}", "", "[::]:9000", "", ""},
		"all, by an empty host":    {"listen: :9000\ninsecure_no_auth: true", "", "[::]:9000", "", ""},
		"open in the file alone":   {"listen: 0.0.0.0:9000", "", "127.0.0.1:9000", "0.0.0.0:9000", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cfg, err := Parse("llmsup.yaml", []byte(c.file+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			if c.flag != "" {
				cfg.Listen = c.flag
			}
			cfg.ListenOn(c.socket, c.flag != "")
			if cfg.Listen != c.socket || cfg.IgnoredListen != c.ignored {
				t.Errorf("listens at %q, ignored %q; want %q, %q", cfg.Listen, cfg.IgnoredListen, c.socket, c.ignored)
			}
			err = cfg.Validate()
			if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
				t.Errorf("validate says %v, want %q", err, c.wrong)
			}
		})
	}
}
