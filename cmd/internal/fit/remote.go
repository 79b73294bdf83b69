package fit

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models/gguf"
	"github.com/llmsup/llmsup/models/hub"
	"github.com/llmsup/llmsup/models/vram"
)

// headersAtOnce is how many headers are read from a hub at the same time.
const headersAtOnce = 4

// Reference returns how what a text refers to fits a box, as Remote does. The settings of the hub are
// those of the environment.
func Reference(ctx context.Context, text string, r vram.Run, b Box) (control.Fit, error) {
	ref, err := hub.ParseRef(text)
	if err != nil {
		return control.Fit{}, err
	}
	client, err := hub.FromEnvironment()
	if err != nil {
		return control.Fit{}, err
	}
	l, err := client.List(ctx, ref)
	if err != nil {
		return control.Fit{}, err
	}
	return Remote(ctx, client, l, r, b)
}

// Remote returns how the variants of a listing fit a box, or only the one that its reference names.
// It reads their headers only. An error is one sentence; where only some headers cannot be read,
// their Problem says why.
func Remote(ctx context.Context, client *hub.Client, l hub.Listing, r vram.Run, b Box) (control.Fit, error) {
	variants := l.Variants
	if one, named, err := l.Find(); err != nil {
		return control.Fit{}, err
	} else if named {
		variants = []hub.Variant{one}
	}
	return remote(ctx, client, l.Ref.String(), variants, r, b)
}

// Choose returns the variant of a listing to take if its reference names none, and why, as the end
// of a sentence. It reads their headers only.
func Choose(ctx context.Context, client *hub.Client, l hub.Listing, r vram.Run, b Box) (v hub.Variant, why string, err error) {
	f, err := remote(ctx, client, l.Ref.String(), l.Variants, r, b)
	if err != nil {
		return hub.Variant{}, "", err
	}
	index, why := choose(f)
	return l.Variants[index], why, nil
}

func remote(ctx context.Context, client *hub.Client, name string, variants []hub.Variant, r vram.Run, b Box) (control.Fit, error) {
	if len(variants) == 0 {
		return control.Fit{}, errors.New(name + " has no GGUF file")
	}
	headers, failures := readHeaders(ctx, client, variants)
	if ctx.Err() != nil {
		return control.Fit{}, context.Cause(ctx)
	}
	t := newTable(name, r, b)
	for i, v := range variants {
		var files []string
		for _, file := range v.Files {
			files = append(files, file.Path)
		}
		t.add(nameIn(variants, v), v.Quant, files, v.Size(), headers[i], failures[i])
	}
	if t.Architecture == "" { // none could be read
		return control.Fit{}, failures[0]
	}
	if index, why := choose(t.Fit); len(variants) > 1 {
		t.Choice, t.ChoiceReason = t.Variants[index].Name, why
	}
	return t.Fit, nil
}

// nameIn returns a name of a variant that no other one has: its quantisation, else its file.
func nameIn(variants []hub.Variant, v hub.Variant) string {
	for _, other := range variants {
		if other.Name() == v.Name() && other.Files[0].Path != v.Files[0].Path {
			return v.Files[0].Path
		}
	}
	return v.Name()
}

// readHeaders reads the header of each variant, or returns why that failed. The first is read
// alone: the others have the tokenizer in common with it.
func readHeaders(ctx context.Context, client *hub.Client, variants []hub.Variant) (headers []*gguf.Header, failures []error) {
	headers, failures = make([]*gguf.Header, len(variants)), make([]error, len(variants))
	var family gguf.Family
	headers[0], failures[0] = readHeader(ctx, client, &family, variants[0])
	var group errgroup.Group
	group.SetLimit(headersAtOnce)
	for i := 1; i < len(variants); i++ {
		group.Go(func() error {
			headers[i], failures[i] = readHeader(ctx, client, &family, variants[i])
			return nil
		})
	}
	_ = group.Wait() // the failures are in the list
	return headers, failures
}

func readHeader(ctx context.Context, client *hub.Client, family *gguf.Family, v hub.Variant) (*gguf.Header, error) {
	var sources []gguf.Source
	for _, file := range v.Files {
		if file.Size < 0 {
			return nil, errors.New("the server does not say how large " + file.Path + " is")
		}
		sources = append(sources, gguf.Source{ReaderAt: client.Header(ctx, file), Name: file.Path, Size: file.Size})
	}
	return family.Read(sources)
}
