package accounting

import (
	"path/filepath"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/router/price"
)

// CheckKeyRoutes checks the routes of keys as the Config does, with OpenRouter's stored
// list. A change of that list must not prevent a start, which only warns, nor a reload:
// names in the running configuration (nil = none) are accepted.
func CheckKeyRoutes(c, running *config.Config) error {
	list, err := price.OpenUpstreamList(listFile(pricesDir(c), openRouter), c.Upstreams[openRouter].BaseURL, nil)
	if err != nil || len(list.Listed()) == 0 { // there is no stored list
		return c.CheckKeyRoutes(nil)
	}
	full := fullNames(list.Listed())
	return c.CheckKeyRoutes(func(bare string) bool { return full[bare] != "" || running != nil && running.HasKeyRoute(bare) })
}

// pricesDir returns the directory of the stored lists.
func pricesDir(c *config.Config) string { return filepath.Join(c.StateDir, "prices") }

func listFile(dir, upstream string) string { return filepath.Join(dir, upstream+".json") }
