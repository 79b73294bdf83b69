package downloads

import (
	"context"
	"errors"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/models/hub"
)

// Choose returns which model of a repository to download, of several quantisations.
type Choose func(ctx context.Context, client *hub.Client, listing hub.Listing) (hub.Variant, error)

// FromHub returns a Fetch that downloads into a folder from the hub of the environment. It logs what
// takes long and why.
func FromHub(dir string, choose Choose, log zerolog.Logger) Fetch {
	return func(ctx context.Context, text string, report func(hub.Progress)) (string, error) {
		ref, err := hub.ParseRef(text)
		if err != nil {
			return "", err
		}
		client, err := hub.FromEnvironment() // each time: the file with the token may be new
		if err != nil {
			return "", err
		}
		client.Notify = func(notice string) { log.Warn().Str("model", ref.String()).Msg("the download waits: " + notice) }
		listing, err := client.List(ctx, ref)
		if err != nil {
			return "", err
		}
		variant, named, err := listing.Find()
		if err != nil {
			return "", err
		}
		if !named {
			if variant, err = choose(ctx, client, listing); err != nil {
				return "", err
			}
		}
		if len(variant.Files) == 0 {
			return "", errors.New("the hub has no file of it")
		}
		return client.Download(ctx, variant, dir, report)
	}
}
