package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/config/units"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fit"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/hub"
)

func fitCommand() *cli.Command {
	return &cli.Command{
		Name:      "fit",
		Usage:     "show which quantisations of a model fit the GPUs, before any download",
		ArgsUsage: "REF|FILE|NAME",
		UsageText: "llmsup fit REF|FILE...|NAME [--ctx-size N] [--vram SIZE] [--json] [-- llama-server flags]",
		Description: "REF is hf:ORG/REPO[:QUANT] or the URL of a GGUF file, of which only the header is read; FILE is a GGUF file; NAME is a server of " +
			"the configuration file, with its context, args and gpu, which count for the REF of a server, too. NEEDS is the VRAM with all layers on the GPU. A GPU fits a model if it does once the models that " +
			"llmsup runs there have left; what other processes hold stays, and 128 MiB beside them are left free. CONTEXT is the largest context " +
			"that fits, up to the one that the model was trained for. For one that does not fit, LAYERS are how many do, and CPU-MOE is of how many layers " +
			"the experts have to stay in the CPU's memory.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: flagCtxSize, EnvVars: []string{"LLMSUP_CTX_SIZE"}, Usage: "`TOKENS` of context", DefaultText: "8192"},
			&cli.StringFlag{Name: "vram", Usage: "ask for a machine with an empty GPU of this `SIZE`, as 24GiB, or several: 24GiB,24GiB"},
			&cli.StringFlag{Name: flagGPU, EnvVars: []string{"LLMSUP_GPU"}, Usage: "the `GPU` to fit: an index of nvidia-smi or a UUID, several separated by commas", DefaultText: "all"},
			configFileFlag(),
			&cli.BoolFlag{Name: "json", Usage: "print the figures as a JSON object"},
			controlFlag(),
			stateDirFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			answer, err := fitOf(c)
			if errors.Is(err, context.Canceled) {
				return errors.New("stopped")
			}
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(os.Stdout, answer)
			}
			p := newPage(os.Stdout)
			p.fit(answer)
			return p.err
		},
	}
}

// fitOf returns how what the command line names fits.
func fitOf(c *cli.Context) (control.Fit, error) {
	names, args := c.Args().Slice(), []string(nil)
	if i := slices.IndexFunc(names, func(arg string) bool { return strings.HasPrefix(arg, "-") }); i >= 0 {
		names, args = names[:i], names[i:]
	}
	if len(names) == 0 || slices.Contains(names, "") {
		return control.Fit{}, usagef("llmsup fit takes a model, as in \"llmsup fit hf:ORG/REPO\" or \"llmsup fit model.gguf\"")
	}
	cfg, err := readableConfig(c)
	if err != nil {
		return control.Fit{}, err
	}
	server, isServer := cfg.Servers[names[0]]
	if isServer && server.IsCommand() {
		return control.Fit{}, fmt.Errorf("server %s runs another engine than llama-server, whose need is not known before it has been measured", names[0])
	}
	var servers []config.Server
	if isServer {
		servers = append(servers, server)
	} else if ref, err := hub.ParseRef(names[0]); err == nil {
		servers = cfg.ServersOf(ref.String())
	}
	uses, err := usesOf(c, cfg, servers, args)
	if err != nil {
		return control.Fit{}, err
	}
	if isServer && len(names) == 1 {
		path, _ := modelFile(cfg, server)
		return fitModel(c.Context, names[0], []string{cmp.Or(path, server.Model)}, uses)
	}
	return fitModel(c.Context, names[0], names, uses)
}

// usesOf returns how servers run a model, with the flags of the command line; with none, how one does
// for which the configuration sets nothing. args are further flags of llama-server.
func usesOf(c *cli.Context, cfg *config.Config, servers []config.Server, args []string) (uses []fit.Use, err error) {
	if len(servers) == 0 {
		servers = append(servers, config.DefaultServer())
	}
	for _, server := range servers {
		if c.IsSet(flagCtxSize) {
			if server.CtxSize = c.Int(flagCtxSize); server.CtxSize < 1 {
				return nil, usagef("--ctx-size %d is not a number of tokens", server.CtxSize)
			}
		}
		server.Args = slices.Concat(server.Args, args)
		box, err := boxOf(c, cfg, server)
		if err != nil {
			return nil, err
		}
		uses = append(uses, fit.Use{Run: server.Run(), Box: box})
	}
	return uses, nil
}

// fitModel returns how a reference, or some files, fit.
func fitModel(ctx context.Context, name string, models []string, uses []fit.Use) (control.Fit, error) {
	i := slices.IndexFunc(models, hub.IsRef)
	switch {
	case i >= 0 && len(models) > 1:
		return control.Fit{}, usagef("llmsup fit takes one reference; %s is not the only argument", models[i])
	case i < 0:
		if _, err := os.Stat(models[0]); errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(models[0], "/.") {
			return control.Fit{}, fmt.Errorf("%s is neither a file nor a server of the configuration file; a model of a hub is hf:ORG/REPO", models[0])
		}
		return fit.Local(name, models, uses[0])
	}
	ref, err := hub.ParseRef(models[0])
	if err != nil {
		return control.Fit{}, usageError{err}
	}
	client, err := hub.FromEnvironment()
	if err != nil {
		return control.Fit{}, err
	}
	client.UserAgent = "llmsup/" + version
	client.Notify = func(text string) { fmt.Fprintln(os.Stderr, "llmsup: "+printable(text)) }
	listing, err := client.List(ctx, ref)
	if err != nil {
		return control.Fit{}, err
	}
	return fit.Remote(ctx, client, listing, uses)
}

// minVRAM is less than any GPU has: --vram 24 would be 24 bytes.
const minVRAM = 64 << 20

// boxOf returns the GPUs to fit: those of --vram, else those of this machine.
func boxOf(c *cli.Context, cfg *config.Config, server config.Server) (fit.Box, error) {
	if text := c.String("vram"); text != "" {
		var sizes []uint64
		for word := range strings.SplitSeq(text, ",") {
			size, ok := units.ParseByteSize(word)
			if !ok || size < minVRAM {
				return fit.Box{}, usagef("--vram %q is not the size of a GPU (examples: 24GiB, or 24GiB,24GiB)", text)
			}
			sizes = append(sizes, uint64(size))
		}
		return fit.Imagined(sizes), nil
	}
	selection := cfg.DevicesOf(server)
	if c.IsSet(flagGPU) {
		if selection = c.String(flagGPU); !config.ValidDevices(selection) {
			return fit.Box{}, usagef("--gpu %q is not a GPU; pass an index or a UUID of nvidia-smi, several separated by commas", selection)
		}
	}
	return thisBox(c, selection), nil
}

// thisBox returns the GPUs of this machine that a selection names. Without a daemon all processes on
// them count as others.
func thisBox(c *cli.Context, selection string) fit.Box {
	var own []int
	if status, err := daemonClient(c).Status(c.Context); err == nil {
		for _, g := range status.GPUs {
			for _, p := range g.Processes {
				if p.Server != "" {
					own = append(own, p.PID)
				}
			}
		}
	}
	return fit.BoxOf(gpu.ReadOnce(c.Context), selection, own)
}
