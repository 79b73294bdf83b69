package fileedit

import (
	"errors"
	"fmt"

	"github.com/llmsup/llmsup/cmd/internal/config"
)

// serversSection is the section with the servers.
const serversSection = "servers"

// AddServer adds a server with a model, which is the path of a GGUF or what `model` accepts
// otherwise, to a configuration file.
func AddServer(path, name, model string) error {
	_, err := rewrite(path, func(raw []byte) ([]byte, *config.Config, error) { return addServer(path, raw, name, model) })
	return err
}

func addServer(path string, raw []byte, name, model string) ([]byte, *config.Config, error) {
	c, err := config.Parse(path, raw)
	if err != nil {
		return nil, nil, err
	}
	if _, taken := c.Servers[name]; taken {
		return nil, nil, c.ErrorAt([]string{"servers", name}, "there is a server of this name; choose another name, or change its `model` by hand")
	}
	flow, block := serverEntry(name, model)
	text, after, err := editFile(path, raw, edit{
		section: serversSection, check: checkServers,
		apply: func(t *fileText) ([]byte, error) { return t.add(flow, block...) },
		want:  func(servers map[string]any) { servers[name] = map[string]any{"model": model} },
	})
	if errors.Is(err, errNotEditable) {
		err = fmt.Errorf("%s: the servers are %w; put these lines below `servers:` by hand:\n  %s\n  %s", path, err, block[0], block[1])
	}
	return text, after, err
}

// checkServers checks a configuration as a start does before it reads the models' files.
func checkServers(c *config.Config) error { return c.Resolve(func(string) string { return "" }) }
