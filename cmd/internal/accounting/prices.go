package accounting

import (
	"context"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/price"
)

// Prices are the prices of each upstream's models: from the configuration, from the
// upstream's own list, which is fetched daily, and from the built-in table. It implements
// router/accounting's Prices and the router's plan.Catalog.
type Prices struct {
	log   zerolog.Logger
	dir   string // of the stored lists
	books atomic.Pointer[map[string]*price.PriceList]
	full  atomic.Pointer[map[string]string] // OpenRouter's model names, by their bare names; see FullName
	all   atomic.Pointer[models.Lists]

	mu    sync.Mutex
	lists map[string]*listing // by the upstream's name
	group sync.WaitGroup
}

// listing is an upstream's list, with its other prices.
type listing struct {
	upstream           backend.UpstreamConfig
	list               *price.UpstreamList
	configured, common price.Table // by the configuration, and built in
	end                context.CancelFunc
}

func newPrices(dir string, log zerolog.Logger) *Prices {
	p := &Prices{log: log, dir: dir, lists: map[string]*listing{}}
	p.books.Store(&map[string]*price.PriceList{})
	p.full.Store(&map[string]string{})
	return p
}

// Book returns the prices of an upstream; nil = unknown.
func (p *Prices) Book(upstream string) *price.PriceList { return (*p.books.Load())[upstream] }

// FullName implements plan.Catalog with OpenRouter's list.
func (p *Prices) FullName(bare string) (name string, ok bool) {
	name = (*p.full.Load())[bare]
	return name, name != ""
}

// Lists implements plan.Catalog.
func (p *Prices) Lists() *models.Lists { return p.all.Load() }

// ApplyConfig applies a new list of upstreams with their configured prices. It keeps the
// price lists of unchanged upstreams; Fetch fetches the others.
func (p *Prices) ApplyConfig(c *config.Config, upstreams []backend.UpstreamConfig) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.lists
	p.lists = map[string]*listing{}
	for _, u := range upstreams {
		l := old[u.Name]
		if l != nil && l.upstream == u {
			delete(old, u.Name)
		} else {
			l = p.open(u)
		}
		l.configured = c.PriceTable(u.Name)
		p.lists[u.Name] = l
	}
	for _, l := range old {
		l.stop()
	}
	p.rebuild()
}

// open reads the stored list of an upstream. An error is logged, and the next fetch
// replaces the list.
func (p *Prices) open(u backend.UpstreamConfig) *listing {
	l := &listing{upstream: u}
	if isOpenRouter(u) {
		l.common = price.BuiltInTable()
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		p.log.Warn().Err(err).Msg("cannot create the directory for upstreams' prices; they are fetched at each start")
	}
	var err error
	l.list, err = price.OpenUpstreamList(listFile(p.dir, u.Name), u.BaseURL, price.FetchModels(u.BaseURL, u.Key))
	if err != nil {
		p.log.Warn().Str("upstream", u.Name).Err(err).Msg("cannot use the stored prices")
	}
	return l
}

// openRouter is the upstream whose models may be called by their bare names.
const openRouter = "openrouter"

// isOpenRouter reports whether the built-in prices apply to an upstream.
func isOpenRouter(u backend.UpstreamConfig) bool {
	base, err := url.Parse(u.BaseURL)
	return u.Name == openRouter || err == nil && base.Hostname() == "openrouter.ai"
}

// Fetch fetches the lists that are not fetched yet, and keeps them up to date until ctx
// ends, except those of upstreams to leave out.
func (p *Prices) Fetch(ctx context.Context, leaveOut func(upstream string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, l := range p.lists {
		if !leaveOut(name) {
			p.start(ctx, l)
		}
	}
}

// Wait waits for the fetches to end. Call it after the context of Fetch has ended.
func (p *Prices) Wait() { p.group.Wait() }

// start keeps a list up to date, if its upstream can be used. The caller holds mu.
func (p *Prices) start(ctx context.Context, l *listing) {
	if ctx.Err() != nil || l.end != nil || l.upstream.Missing != "" {
		return
	}
	ctx, end := context.WithCancel(ctx)
	l.end = end
	p.group.Go(func() {
		failed := false
		l.list.KeepFresh(ctx, func(err error) {
			p.mu.Lock()
			p.rebuild()
			p.mu.Unlock()
			p.logResult(l.upstream.Name, err, &failed)
		})
	})
}

func (l *listing) stop() {
	if l.end != nil {
		l.end()
	}
}

// logResult logs the result of a fetch, and repeated failures only once. An upstream
// without such a list is not a failure: calls can go there, and their cost is what the
// upstream reports, or unknown.
func (p *Prices) logResult(upstream string, err error, failed *bool) {
	level := zerolog.DebugLevel
	if err != nil && !*failed && !price.HasNoPrices(err) {
		level = zerolog.InfoLevel
	}
	*failed = err != nil
	if err != nil {
		p.log.WithLevel(level).Str("upstream", upstream).Err(err).Msg("cannot fetch or store the upstream's prices; trying again later")
		return
	}
	p.log.Debug().Str("upstream", upstream).Msg("fetched the upstream's prices")
}

// rebuild builds the price lists of all upstreams. The caller holds mu.
func (p *Prices) rebuild() {
	books := make(map[string]*price.PriceList, len(p.lists))
	all := &models.Lists{ByUpstream: make(map[string][]models.Listed, len(p.lists))}
	var full map[string]string
	for name, l := range p.lists {
		listed, _ := l.list.Table()
		books[name] = price.NewPriceList(l.configured, listed, l.common)
		all.ByUpstream[name] = l.list.Listed()
		if name == openRouter {
			full = fullNames(l.list.Listed())
		}
	}
	p.books.Store(&books)
	p.full.Store(&full)
	p.all.Store(all)
}

// fullNames returns the full names VENDOR/MODEL by the bare names MODEL that exactly one
// vendor has; "" = several vendors have it. OpenRouter's own models, such as
// openrouter/auto, select the model that is paid for, so they need their full name.
func fullNames(listed []models.Listed) map[string]string {
	full := map[string]string{}
	for _, model := range listed {
		name := model.ID
		vendor, bare, hasVendor := strings.Cut(name, "/")
		if !hasVendor || vendor == openRouter || strings.HasPrefix(name, models.LocalPrefix) {
			continue
		}
		if other, taken := full[bare]; taken && other != name {
			name = ""
		}
		full[bare] = name
	}
	return full
}
