package daemon

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
	"github.com/llmsup/llmsup/router"
	"github.com/llmsup/llmsup/router/price"
)

// pricing is router.Prices: what the models of each upstream cost, by the
// configuration, by the upstream's own list, which is read daily, and by what is
// built in.
type pricing struct {
	log   zerolog.Logger
	dir   string // where lists are kept
	books atomic.Pointer[map[string]*price.PriceList]
	full  atomic.Pointer[map[string]string] // OpenRouter's model names, by their bare names; see FullName

	mu    sync.Mutex
	lists map[string]*listing // by the upstream's name
	group sync.WaitGroup
}

// listing is an upstream's list and what else is known of its prices.
type listing struct {
	upstream           router.Upstream
	list               *price.UpstreamList
	configured, common price.Table // by the configuration, and built in
	end                context.CancelFunc
}

func newPricing(dir string, log zerolog.Logger) *pricing {
	p := &pricing{log: log, dir: dir, lists: map[string]*listing{}}
	p.books.Store(&map[string]*price.PriceList{})
	p.full.Store(&map[string]string{})
	return p
}

// Book implements router.Prices.
func (p *pricing) Book(upstream string) *price.PriceList { return (*p.books.Load())[upstream] }

// FullName implements router.Catalog by OpenRouter's own list.
func (p *pricing) FullName(bare string) (name string, ok bool) {
	name = (*p.full.Load())[bare]
	return name, name != ""
}

// applyConfig applies another list of upstreams and the prices that the configuration
// has for them. The price lists of upstreams that have not changed are kept; begin has
// the others read.
func (p *pricing) applyConfig(c *config.Config, upstreams []router.Upstream) {
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

// open reads the list that was kept of an upstream. What can be wrong with it is
// told, and mended by the next one.
func (p *pricing) open(u router.Upstream) *listing {
	l := &listing{upstream: u}
	if isOpenRouter(u) {
		l.common = price.BuiltInTable()
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		p.log.Warn().Err(err).Msg("there is no folder to keep upstreams' prices in; they are read anew at each start")
	}
	var err error
	l.list, err = price.OpenUpstreamList(listFile(p.dir, u.Name), u.BaseURL, fetchModels(u))
	if err != nil {
		p.log.Warn().Str("upstream", u.Name).Err(err).Msg("the prices that were kept can't be used")
	}
	return l
}

// openRouter is the upstream whose models can be called by their bare names.
const openRouter = "openrouter"

// isOpenRouter says whether the built-in prices are an upstream's.
func isOpenRouter(u router.Upstream) bool {
	base, err := url.Parse(u.BaseURL)
	return u.Name == openRouter || err == nil && base.Hostname() == "openrouter.ai"
}

// begin has the lists read that are not yet, but for those of upstreams to leave
// out, until ctx ends.
func (p *pricing) begin(ctx context.Context, leaveOut func(upstream string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, l := range p.lists {
		if !leaveOut(name) {
			p.start(ctx, l)
		}
	}
}

// wait waits until nothing is asked any more. The context of begin has ended.
func (p *pricing) wait() { p.group.Wait() }

// start keeps a list new, if its upstream can be used at all. The caller holds the
// mutex.
func (p *pricing) start(ctx context.Context, l *listing) {
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

// logResult logs what came of reading a list, a failure once until it goes well again.
// An upstream without such a list is no failure: calls can go there all the same,
// and what they cost it says itself, or nobody knows.
func (p *pricing) logResult(upstream string, err error, failed *bool) {
	level := zerolog.DebugLevel
	if err != nil && !*failed && !hasNoPrices(err) {
		level = zerolog.InfoLevel
	}
	*failed = err != nil
	if err != nil {
		p.log.WithLevel(level).Str("upstream", upstream).Err(err).Msg("its list of prices could not be read, or kept; it is tried again")
		return
	}
	p.log.Debug().Str("upstream", upstream).Msg("read its list of prices")
}

// rebuild makes the books of what is known now. The caller holds the mutex.
func (p *pricing) rebuild() {
	books := make(map[string]*price.PriceList, len(p.lists))
	var full map[string]string
	for name, l := range p.lists {
		listed, _ := l.list.Table()
		books[name] = price.NewPriceList(l.configured, listed, l.common)
		if name == openRouter {
			full = fullNames(l.list.Names())
		}
	}
	p.books.Store(&books)
	p.full.Store(&full)
}

// fullNames finds the models, named VENDOR/MODEL, whose bare name MODEL exactly one
// vendor has. "" stands for a bare name of several vendors. OpenRouter's own models,
// such as openrouter/auto, choose what is paid for, so they need their full name.
func fullNames(names []string) map[string]string {
	full := map[string]string{}
	for _, name := range names {
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
