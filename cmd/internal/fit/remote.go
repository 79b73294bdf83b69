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

// Use is how a server will run a model, and on which GPUs it may.
type Use struct {
	Run vram.Run
	Box Box
}

// Reference returns how what a reference names fits, as Remote does. The settings of the hub are
// those of the environment.
func Reference(ctx context.Context, ref hub.Ref, uses []Use) (control.Fit, error) {
	client, err := hub.FromEnvironment()
	if err != nil {
		return control.Fit{}, err
	}
	l, err := client.List(ctx, ref)
	if err != nil {
		return control.Fit{}, err
	}
	return Remote(ctx, client, l, uses)
}

// Remote returns how the variants of a listing, or only the one that its reference names, fit the
// first use; what Choose takes is for all of them. There is one use at least. It reads their headers
// only. An error is one sentence; where only some headers cannot be read, their Problem says why.
func Remote(ctx context.Context, client *hub.Client, l hub.Listing, uses []Use) (control.Fit, error) {
	variants := l.Variants
	if one, named, err := l.Find(); err != nil {
		return control.Fit{}, err
	} else if named {
		variants = []hub.Variant{one}
	}
	f, _, err := remote(ctx, client, l.Ref.String(), variants, uses)
	if len(variants) == 1 {
		f.Choice, f.ChoiceReason = "", ""
	}
	return f, err
}

// Choose returns the variant of a listing to take if its reference names none, and why, as the end
// of a sentence: of those that it would take for each use alone, the smallest. It reads their headers
// only.
func Choose(ctx context.Context, client *hub.Client, l hub.Listing, uses []Use) (v hub.Variant, why string, err error) {
	f, index, err := remote(ctx, client, l.Ref.String(), l.Variants, uses)
	if err != nil {
		return hub.Variant{}, "", err
	}
	return l.Variants[index], f.ChoiceReason, nil
}

// remote returns how variants fit the first use, and which of them to take for all uses.
func remote(ctx context.Context, client *hub.Client, name string, variants []hub.Variant, uses []Use) (first control.Fit, choice int, err error) {
	if len(variants) == 0 {
		return control.Fit{}, 0, errors.New(name + " has no GGUF file")
	}
	headers, failures := readHeaders(ctx, client, variants)
	if ctx.Err() != nil {
		return control.Fit{}, 0, context.Cause(ctx)
	}
	for i, use := range uses {
		t := tableOf(name, use, variants, headers, failures)
		if t.Architecture == "" { // none could be read
			return control.Fit{}, 0, failures[0]
		}
		if i == 0 {
			first = t
		}
		if index, why := choose(t); i == 0 || index < choice {
			choice, first.Choice, first.ChoiceReason = index, t.Variants[index].Name, why
		}
	}
	return first, choice, nil
}

// tableOf returns how variants fit a use, whose headers were read, or not.
func tableOf(name string, use Use, variants []hub.Variant, headers []*gguf.Header, failures []error) control.Fit {
	t := newTable(name, use)
	for i, v := range variants {
		var files []string
		for _, file := range v.Files {
			files = append(files, file.Path)
		}
		t.add(nameIn(variants, v), v.Quant, files, v.Size(), headers[i], failures[i])
	}
	return t.Fit
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
			return nil, errors.New("the server does not say how large " + file.Path + " is: download it with llmsup pull, and name the file on disk")
		}
		sources = append(sources, gguf.Source{ReaderAt: client.Header(ctx, file), Name: file.Path, Size: file.Size})
	}
	return family.Read(sources)
}
