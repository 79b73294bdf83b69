package daemon

import (
	"path/filepath"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/router/price"
)

// CheckKeyRoutes is the Config's, with OpenRouter's list as it was last read. What
// OpenRouter lists today must not stop a start, which only warns, nor a reload: names
// that the running configuration has (nil = there is none) are accepted.
func CheckKeyRoutes(c, running *config.Config) error {
	list, err := price.OpenUpstreamList(listFile(pricesDir(c), openRouter), c.Upstreams[openRouter].BaseURL, nil)
	if err != nil || len(list.Names()) == 0 { // it is not known
		return c.CheckKeyRoutes(nil)
	}
	full := fullNames(list.Names())
	return c.CheckKeyRoutes(func(bare string) bool { return full[bare] != "" || running != nil && running.HasKeyRoute(bare) })
}

// pricesDir has the lists that were read of upstreams.
func pricesDir(c *config.Config) string { return filepath.Join(c.StateDir, "prices") }

func listFile(dir, upstream string) string { return filepath.Join(dir, upstream+".json") }
