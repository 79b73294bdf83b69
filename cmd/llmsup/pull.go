package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/downloads"
	"github.com/llmsup/llmsup/cmd/internal/fit"
	"github.com/llmsup/llmsup/models/hub"
)

func pullCommand() *cli.Command {
	return &cli.Command{
		Name:      "pull",
		Usage:     "download a model from a Hugging Face hub, or from a URL",
		ArgsUsage: "REF",
		UsageText: "llmsup pull hf:ORG/REPO[:QUANT][@REVISION] [--quant Q4_K_M] [--dir FOLDER] [--mmproj] [--add NAME]\n" +
			"llmsup pull hf:ORG/REPO/FILE.gguf\nllmsup pull https://HOST/FILE.gguf",
		Description: "QUANT is a quantisation of the repository, such as Q4_K_M. Without one, llmsup chooses the best that fits this machine's GPUs, " +
			"with the context, args and gpu of the server of the configuration file that has this reference as its model. " +
			"All parts of a split model are downloaded, over several connections. Ctrl-C and kill keep what has arrived: the same " +
			"command continues. Before a file gets its name, its SHA-256 is compared with the hub's.\n" +
			"HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HOME and HF_HUB_OFFLINE are those of the hub's own tools. The token is sent to the hub only, " +
			"not to the hosts that it redirects to.\n" +
			"--add adds a server with the model to the configuration file, whose other lines stay as they are, and has a running llmsup " +
			"reload it. A file that --config names is created if it does not exist.\n" +
			"The path of the file is printed on stdout, everything else on stderr:\n" +
			"  llmsup start --model \"$(llmsup pull hf:ORG/REPO:Q4_K_M)\"",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "quant", Usage: "download this `QUANTISATION`"},
			&cli.StringFlag{Name: "dir", TakesFile: true, Usage: "download into this `FOLDER`; the file is in FOLDER/ORG/REPO, or FOLDER/HOST-HASH for a URL", DefaultText: "models in the state directory"},
			&cli.BoolFlag{Name: "mmproj", Usage: "also download the projector for images or sound, for llama-server's --mmproj"},
			&cli.StringFlag{Name: "add", Usage: "add a server of this `NAME` with the model to the configuration file"},
			configFileFlag(),
			controlFlag(),
			stateDirFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			ref, err := pullRef(c)
			if err != nil {
				return err
			}
			cfg, adder, err := pullTarget(c)
			if err != nil {
				return err
			}
			dir := c.String("dir")
			if dir == "" {
				dir = cfg.ModelsDir()
				if err := control.MakeDir(cfg.StateDir); err != nil {
					return pullError(ref, err)
				}
			}
			p := puller{page: newPage(os.Stderr), dir: dir, projector: c.Bool("mmproj"), uses: func() ([]fit.Use, error) {
				servers := cfg.ServersOf(ref.String())
				if adder != nil {
					servers = append(servers, config.DefaultServer())
				}
				return usesOf(c, cfg, servers, nil)
			}}
			paths, err := p.pull(c.Context, ref)
			if err != nil {
				return err
			}
			if _, err = fmt.Println(strings.Join(paths, "\n")); err != nil || adder == nil {
				return err
			}
			if err := adder.add(c.Context, paths); err != nil {
				return fmt.Errorf("the model is downloaded, to %s: %w", paths[0], err)
			}
			return nil
		},
	}
}

// pullRef returns the reference on the command line.
func pullRef(c *cli.Context) (hub.Ref, error) {
	if c.NArg() != 1 {
		return hub.Ref{}, usagef("llmsup pull takes one reference, as in \"llmsup pull hf:ORG/REPO:Q4_K_M\"")
	}
	ref, err := hub.ParseRef(c.Args().First())
	if err != nil {
		return ref, usageError{err}
	}
	quant := c.String("quant")
	switch {
	case quant == "":
	case ref.URL != "" || ref.Quant != "" || ref.File != "":
		return ref, usagef("--quant is for a repository, as in \"llmsup pull hf:ORG/REPO --quant %s\"; this reference names the file already", printable(quant))
	default:
		if ref, err = hub.ParseRef(strings.Replace(ref.String(), ref.Org+"/"+ref.Repo, ref.Org+"/"+ref.Repo+":"+quant, 1)); err != nil {
			return ref, usageError{err}
		}
	}
	return ref, nil
}

// puller downloads a model and shows how far it is.
type puller struct {
	page      *page
	dir       string
	projector bool
	uses      func() ([]fit.Use, error) // for which a quantisation is chosen
}

func (p *puller) say(format string, args ...any) {
	p.page.sentence("  ", "%s", printable(fmt.Sprintf(format, args...)))
}

// pull returns the paths of the model and, if wanted, of its projector.
func (p *puller) pull(ctx context.Context, ref hub.Ref) (paths []string, err error) {
	client, err := hub.FromEnvironment()
	if err != nil {
		return nil, err
	}
	client.UserAgent = "llmsup/" + version
	client.Notify = func(text string) { p.say("%s", text) }
	list, err := client.List(ctx, ref)
	switch {
	case errors.Is(err, context.Canceled):
		return nil, errors.New("stopped")
	case err != nil:
		return nil, err
	}
	model, named, err := list.Find()
	if err != nil {
		return nil, err
	}
	if !named {
		if model, err = p.choose(ctx, client, list); err != nil {
			return nil, pullError(ref, err)
		}
	}
	wanted := []hub.Variant{model}
	if projector, ok := list.Projector(); ok && p.projector {
		wanted = append(wanted, hub.Variant{Files: []hub.File{projector}})
	} else if ok {
		p.say("%s has a projector for images or sound, %s: --mmproj downloads it too", ref, path.Base(projector.Path))
	} else if p.projector {
		return nil, fmt.Errorf("%s has no projector (mmproj): leave out --mmproj", ref)
	}
	for _, v := range wanted {
		file, err := p.download(ctx, client, v)
		if err != nil {
			return nil, pullError(ref, err)
		}
		paths = append(paths, file)
	}
	if err := downloads.Remember(p.dir, ref.String(), paths[0]); err != nil { // a server with this reference then needs no hub
		p.say("%s", err)
	}
	return paths, nil
}

// choose returns the quantisation to download if the user names none.
func (p *puller) choose(ctx context.Context, client *hub.Client, list hub.Listing) (hub.Variant, error) {
	uses, err := p.uses()
	if err != nil {
		return hub.Variant{}, err
	}
	model, why, err := fit.Choose(ctx, client, list, uses)
	if err == nil {
		p.say("%s: %s", model.Name(), why)
	}
	return model, err
}

// pullError adds what the user can do about an error.
func pullError(ref hub.Ref, err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("stopped; what has arrived is kept, and \"llmsup pull %s\" continues", ref)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; run the command as root or as the user that llmsup runs as, or choose another folder with --dir", err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w; choose another folder with --dir", err)
	case hub.IsTemporary(err):
		return fmt.Errorf("%w; what has arrived is kept, and \"llmsup pull %s\" continues", err, ref)
	}
	return err
}

// download downloads a model and returns the path of its first file.
func (p *puller) download(ctx context.Context, client *hub.Client, v hub.Variant) (string, error) {
	what := path.Base(v.Files[0].Path)
	if n := len(v.Files); n > 1 {
		what += fmt.Sprintf(" and %d more", n-1)
	}
	p.say("downloading %s, %s, to %s", what, sizeOrUnknown(v.Size()), p.dir)
	show := newPullProgress(os.Stderr)
	client.Notify = func(text string) { show.interrupt(func() { p.say("%s", text) }) }
	began := time.Now()
	file, err := client.Download(ctx, v, p.dir, show.report)
	show.end()
	if err != nil {
		return "", err
	}
	verified, hashed := "its SHA-256 is the hub's", true
	if slices.ContainsFunc(v.Files, func(f hub.File) bool { return f.SHA256 == "" }) {
		verified, hashed = "the server gives no SHA-256 to compare it with", false
	}
	switch arrived := show.last.Done - show.last.Before; {
	case arrived > 0:
		p.say("%s in %s; %s", hub.Size(arrived), duration(time.Since(began)), verified)
	case hashed:
		p.say("it is there already; %s", verified)
	default:
		p.say("a file of its name and size is there already, and is no older; %s: remove it to download it again", verified)
	}
	return file, nil
}

func sizeOrUnknown(bytes int64) string {
	if bytes < 0 {
		return "of unknown size"
	}
	return hub.Size(bytes)
}
