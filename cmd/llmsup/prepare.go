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
	"github.com/llmsup/llmsup/supervisor"
)

// header is what a server's GGUF says of itself.
type header struct {
	server string
	*gguf.Header
	err error // a damaged file: llama-server will say so too
}

// prepare looks for all that start needs and can be missing, and makes the demo
// model. Its errors keep the daemon from starting; a model that is there and
// damaged does not, since calls can still go to the cloud.
func prepare(cfg *config.Config) (binary string, headers []header, err error) {
	if cfg.Demo {
		if err := makeDemo(cfg); err != nil {
			return "", nil, err
		}
	}
	names := map[string]string{}
	for name, server := range cfg.Servers {
		h := header{server: name}
		if h.Header, h.err = gguf.Read(server.Model); h.err != nil {
			if fatal := unusable(server.Model, h.err); fatal != nil {
				return "", nil, fmt.Errorf("server %s: %w", name, fatal)
			}
		} else {
			names[name] = h.Name
			server.Model = h.Files[0] // of a split model, llama-server wants the first part
			cfg.Servers[name] = server
		}
		headers = append(headers, h)
	}
	if err := cfg.Resolve(func(server string) string { return names[server] }); err != nil {
		return "", nil, err
	}
	if len(cfg.Servers) > 0 {
		if binary, err = supervisor.FindBinary(cfg.LlamaServer); err != nil {
			return "", nil, err
		}
	}
	return binary, headers, nil
}

// unusable says whether a model's path leads to no model at all.
func unusable(path string, err error) error {
	for _, hopeless := range []error{gguf.ErrNotGGUF, fs.ErrNotExist, fs.ErrPermission} {
		if errors.Is(err, hopeless) {
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
		return fmt.Errorf("make the demo model: %w; pass another folder with --state-dir", err)
	}
	return nil
}
