package fileedit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/llmsup/llmsup/cmd/internal/config"
)

// serversSection is the section with the servers.
const serversSection = "servers"

// Server is a server to add.
type Server struct {
	Model string   // path of the GGUF
	Args  []string // of llama-server; nil = none
}

// AddServer adds a server to a configuration file. A file that does not exist is created.
func AddServer(path, name string, server Server) error {
	created := false
	if file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o644); err == nil { //nolint:gosec // a service of another user reads it
		created = true
		_ = file.Close() // it is empty
	}
	_, err := rewrite(path, func(raw []byte) ([]byte, *config.Config, error) { return addServer(path, raw, name, server) })
	if err != nil && created {
		_ = os.Remove(path) // best effort: the error says more
	}
	return err
}

// CheckAddServer returns the error that AddServer would return for a server of this name, as far
// as that is known before its model is there.
func CheckAddServer(path, name string) error {
	raw, err := config.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, _, err := addServer(path, raw, name, Server{Model: "/model.gguf"}); err != nil {
		return err
	}
	folder := filepath.Dir(path)
	if target, err := filepath.EvalSymlinks(path); err == nil {
		folder = filepath.Dir(target)
	}
	if err := unix.Access(folder, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("configuration %s cannot be written: %w; run the command as the owner of the file and its folder, or pass another file with --config", path, err)
	}
	return nil
}

func addServer(path string, raw []byte, name string, server Server) ([]byte, *config.Config, error) {
	c, err := config.Parse(path, raw)
	if err != nil {
		return nil, nil, err
	}
	if _, taken := c.Servers[name]; taken {
		return nil, nil, c.ErrorAt([]string{"servers", name}, "there is a server of this name; choose another name, or change its `model` by hand")
	}
	flow, block := server.entry(name)
	text, after, err := editFile(path, raw, edit{
		section: serversSection, check: checkServers,
		apply: func(t *fileText) ([]byte, error) { return t.add(flow, block...) },
		want:  func(servers map[string]any) { servers[name] = server.fields() },
	})
	if errors.Is(err, errNotEditable) {
		err = fmt.Errorf("%s: the servers are %w; put this below `servers:` by hand: %s", path, err, flow)
	}
	return text, after, err
}

// fields returns a server as YAML decodes it without a type.
func (s Server) fields() map[string]any {
	fields := map[string]any{"model": s.Model}
	if s.Args != nil {
		args := make([]any, len(s.Args))
		for i, arg := range s.Args {
			args[i] = arg
		}
		fields["args"] = args
	}
	return fields
}

// entry returns the text for a server, in flow style and as lines.
func (s Server) entry(name string) (flow string, block []string) {
	fields := []string{"model: " + yamlString(s.Model)}
	if s.Args != nil {
		args := make([]string, len(s.Args))
		for i, arg := range s.Args {
			args[i] = yamlString(arg)
		}
		fields = append(fields, "args: ["+strings.Join(args, ", ")+"]")
	}
	return yamlString(name) + ": {" + strings.Join(fields, ", ") + "}", append([]string{yamlString(name) + ":"}, indented("  ", fields)...)
}

// checkServers checks a configuration as a start does before it reads the models' files.
func checkServers(c *config.Config) error { return c.Resolve(func(string) string { return "" }) }
