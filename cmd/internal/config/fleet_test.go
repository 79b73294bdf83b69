package config

import (
	"slices"
	"strings"
	"testing"
)

func TestFleet(t *testing.T) {
	const valid = "fleet: {nats: 'nats://a', name: gpu1, advertise: 'http://gpu1:8000', key_file: /key}\n"
	for name, tc := range map[string]struct{ text, want string }{
		"valid":          {valid, ""},
		"none":           {"fleet:\n", ""},
		"resume":         {valid + "routes: {local: {primary: qwen, resume: true}}", ""},
		"resume alone":   {"servers: {qwen: {model: q.gguf}}\nroutes: {local: {primary: qwen, resume: true}}\n", "routes.local.resume: needs a fallback"},
		"an unknown key": {"fleet: {name: gpu1, size: 3}", "size"},
		"no servers":     {"fleet:\n  name: gpu1\n", "f.yaml:1: fleet.nats: is missing"},
		"a bad name":     {"fleet:\n  nats: nats://a\n  name: a b\n", "f.yaml:3: fleet.name: a box's name has"},
		"a pasted key":   {"fleet:\n  nats: nats://a\n  advertise: http://a\n  key_file: secret\n", "f.yaml:4: fleet.key_file: takes the path of a file"},
		"a proxy":        {strings.Replace(valid, "http://gpu1", "https://gpu1", 1), ""},
		"with tls":       {strings.Replace(valid, "http://gpu1", "https://gpu1", 1) + "tls: {cert_file: /c, key_file: /k}", ""},
		"HTTP with tls":  {"tls: {cert_file: /c, key_file: /k}\n" + valid, "f.yaml:2: fleet.advertise: begins with http://, but this box speaks HTTPS"},
		"half a tls":     {"tls:\n  cert_file: /c\n", "f.yaml:1: tls.key_file: is missing"},
		"a pasted file":  {"tls:\n  cert_file: secret\n  key_file: /k\n", "f.yaml:2: tls.cert_file: takes the path of a file"},
		"a variable":     {"fleet:\n  nats: nats://a\n  credentials_file: $HOME/x\n", "f.yaml:3: fleet.credentials_file: can contain no variable"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse("f.yaml", []byte(tc.text))
			if err == nil {
				err = c.Resolve(noHeader)
			}
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret")) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
	with, without := mustParse(t, valid), mustParse(t, "log_level: info")
	if changes := with.Changes(without); !slices.Contains(changes, "fleet: changed") {
		t.Errorf("the changes are %q", changes)
	}
	if changes := with.Changes(with); len(changes) > 0 {
		t.Errorf("nothing has changed, but %q", changes)
	}
}
