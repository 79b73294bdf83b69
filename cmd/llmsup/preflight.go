package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/downloads"
	"github.com/llmsup/llmsup/models/demo"
	"github.com/llmsup/llmsup/models/gguf"
	"github.com/llmsup/llmsup/supervisor/generic"
	"github.com/llmsup/llmsup/supervisor/llamacpp"
)

// modelHeader is the GGUF header of a server's model.
type modelHeader struct {
	server string
	*gguf.Header
	err error // the file is damaged; llama-server will fail on it
}

// preflight checks the files that start needs, and generates the demo model. It returns the
// programs of the servers. Its errors prevent the start. A damaged model does not, since
// calls can still go to the cloud.
func preflight(cfg *config.Config) (programs map[string]string, headers []modelHeader, err error) {
	if cfg.Demo {
		if err := makeDemo(cfg); err != nil {
			return nil, nil, err
		}
	}
	names := map[string]string{}
	for name, server := range cfg.Servers {
		if server.IsCommand() {
			continue
		}
		path, remote := modelFile(cfg, server)
		if path == "" {
			continue
		}
		h := modelHeader{server: name}
		if h.Header, h.err = gguf.Read(path); h.err != nil {
			if fatal := unusableModel(path, h.err); fatal != nil && !remote {
				return nil, nil, fmt.Errorf("server %s: %w", name, fatal)
			}
		} else if !remote { // the routes must not depend on whether the model is there
			names[name] = h.Name
			server.Model = h.Files[0] // llama-server takes the first part of a split model
			cfg.Servers[name] = server
		}
		headers = append(headers, h)
	}
	if err := cfg.Resolve(func(server string) string { return names[server] }); err != nil {
		return nil, nil, err
	}
	programs, err = findPrograms(cfg)
	return programs, headers, err
}

// modelFile returns the path of a server's model; "" = it is not downloaded yet. remote is
// whether the configuration has it downloaded.
func modelFile(cfg *config.Config, server config.Server) (path string, remote bool) {
	ref := server.Ref()
	if ref == "" {
		return server.Model, false
	}
	path, _ = downloads.Find(cfg.ModelsDir(), ref)
	return path, true
}

// findPrograms returns the absolute path of each server's program.
func findPrograms(cfg *config.Config) (map[string]string, error) {
	programs, llamaServer := map[string]string{}, ""
	for _, name := range sortedNames(cfg.Servers) {
		server := cfg.Servers[name]
		switch {
		case server.IsCommand():
			found, err := generic.FindProgram(server.Argv[0])
			if err != nil {
				return nil, fmt.Errorf("server %s: command: %w", name, err)
			}
			if len(server.StopCommand) > 0 {
				if _, err := generic.FindProgram(server.StopCommand[0]); err != nil {
					return nil, fmt.Errorf("server %s: stop_command: %w", name, err)
				}
			}
			programs[name] = found
			continue
		case llamaServer == "":
			found, err := llamacpp.FindBinary(cfg.LlamaServer)
			if err != nil {
				return nil, err
			}
			llamaServer = found
		}
		programs[name] = llamaServer
	}
	return programs, nil
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
