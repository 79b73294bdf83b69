package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models/demo"
	"github.com/llmsup/llmsup/models/gguf"
	"github.com/llmsup/llmsup/supervisor/llamacpp"
)

// modelHeader is the GGUF header of a server's model.
type modelHeader struct {
	server string
	*gguf.Header
	err error // the file is damaged; llama-server will fail on it
}

// preflight checks the files that start needs, and generates the demo model. Its
// errors prevent the start. A damaged model does not, since calls can still go to the
// cloud.
func preflight(cfg *config.Config) (binary string, headers []modelHeader, err error) {
	if cfg.Demo {
		if err := makeDemo(cfg); err != nil {
			return "", nil, err
		}
	}
	names := map[string]string{}
	for name, server := range cfg.Servers {
		h := modelHeader{server: name}
		if h.Header, h.err = gguf.Read(server.Model); h.err != nil {
			if fatal := unusableModel(server.Model, h.err); fatal != nil {
				return "", nil, fmt.Errorf("server %s: %w", name, fatal)
			}
		} else {
			names[name] = h.Name
			server.Model = h.Files[0] // llama-server takes the first part of a split model
			cfg.Servers[name] = server
		}
		headers = append(headers, h)
	}
	if err := cfg.Resolve(func(server string) string { return names[server] }); err != nil {
		return "", nil, err
	}
	if len(cfg.Servers) > 0 {
		if binary, err = llamacpp.FindBinary(cfg.LlamaServer); err != nil {
			return "", nil, err
		}
	}
	return binary, headers, nil
}

// unusableModel returns err if the path does not lead to a model at all.
func unusableModel(path string, err error) error {
	for _, fatal := range []error{gguf.ErrNotGGUF, fs.ErrNotExist, fs.ErrPermission} {
		if errors.Is(err, fatal) {
			return err
		}
	}
	if info, statErr := os.Stat(path); statErr != nil || !info.Mode().IsRegular() {
		return err
	}
	return nil
}

func makeDemo(cfg *config.Config) error {
	err := control.MakeDir(cfg.StateDir)
	if err == nil {
		_, err = demo.Ensure(cfg.DemoDir())
	}
	if err != nil {
		return fmt.Errorf("create the demo model: %w; pass another folder with --state-dir", err)
	}
	return nil
}
