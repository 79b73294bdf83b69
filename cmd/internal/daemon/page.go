package daemon

import (
	"cmp"
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fit"
	"github.com/llmsup/llmsup/cmd/internal/modelfiles"
	"github.com/llmsup/llmsup/cmd/internal/page"
	"github.com/llmsup/llmsup/cmd/internal/page/feed"
	"github.com/llmsup/llmsup/models/hub"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/price"
)

// openPage makes the web page, and the feed of what it shows.
func (d *Daemon) openPage() {
	host, _ := os.Hostname() // "" = unknown
	d.feed = feed.New(feed.Options{
		Daemon: pageDaemon{d}, Traffic: pageTraffic{d}, Spending: d, Fleet: d,
		Box: feed.Box{Name: host, Version: d.opts.Version, Listen: d.listener.Addr().String(), Started: time.Now()},
	})
	d.page = page.New(page.Options{Feed: d.feed, Router: d.router, Daemon: d, Logs: d, Disk: d, Puller: d.downloads, Log: d.log})
	d.page.Enable(d.setup.Config.Page.Enabled)
}

// pageAddress returns the address of the web page; "" = it is off.
func (d *Daemon) pageAddress() string {
	if !d.page.Enabled() {
		return ""
	}
	return d.endpoint.url(reachable(d.listener.Addr().String())) + page.Prefix
}

// reachable returns an address of this machine for one that llmsup listens on, which may
// stand for all addresses of the machine.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("localhost", port)
	}
	return listen
}

// pageDaemon implements feed.Daemon.
type pageDaemon struct{ *Daemon }

// Changes implements feed.Daemon.
func (d pageDaemon) Changes() []<-chan struct{} {
	servers, changed := d.processes()
	changes := []<-chan struct{}{changed}
	for _, s := range servers {
		changes = append(changes, s.Snapshot().Changed)
	}
	return changes
}

// pageTraffic implements feed.Traffic.
type pageTraffic struct{ *Daemon }

// Ended implements feed.Traffic.
func (d pageTraffic) Ended() int64 { return d.router.Calls() - int64(d.router.Inflight()) }

// InFlight implements feed.Traffic.
func (d pageTraffic) InFlight() (list []feed.Call) {
	for _, c := range d.router.InFlight().Snapshot() {
		shown := feed.Call{
			ID: c.ID().String(), Started: c.Began, Path: c.Path, Model: c.Model, Key: c.Key, Backend: c.Backend, Reason: string(c.Reason),
			Phase: string(c.Phase), Place: c.Place, Tokens: c.Tokens, Cost: (*control.USD)(c.Cost),
		}
		if c.FirstAnswer > 0 {
			shown.FirstAnswer = new(c.Began.Add(c.FirstAnswer))
		}
		list = append(list, shown)
	}
	return list
}

// lastEnded is how many calls that have ended are read: more than end in a second.
const lastEnded = 500

// LastEnded implements feed.Traffic.
func (d pageTraffic) LastEnded() (list []feed.EndedCall) {
	for _, row := range d.router.InFlight().Ended(lastEnded) {
		e := feed.EndedCall{ID: row.CallID().String(), Backend: row.Backend, Ended: row.Time.Add(row.Duration), FirstAnswer: row.FirstAnswer}
		if row.Completion != nil {
			e.Tokens = *row.Completion
		}
		list = append(list, e)
	}
	return list
}

// Routes implements feed.Traffic.
func (d pageTraffic) Routes(key string) (list []feed.Route) {
	named := keyNamed(d.router.Access(), key)
	if named == nil && key != "" {
		return nil
	}
	for _, r := range d.router.Routes(named) {
		shown := feed.Route{Name: r.Name, Primary: r.Primary, Local: r.Local, Paid: r.Paid, Fallback: r.Fallback, FallbackName: r.FallbackName, FallbackPaid: r.FallbackPaid}
		if r.Prices != nil {
			shown.PriceIn, shown.PriceOut = perMillion(r.Prices.Prompt), perMillion(r.Prices.Completion)
		}
		list = append(list, shown)
	}
	slices.SortFunc(list, func(a, b feed.Route) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// keyNamed returns the key of a name; nil = there is none.
func keyNamed(p *access.Policy, name string) *access.Key {
	if i := slices.IndexFunc(p.Keys, func(k access.Key) bool { return k.Name == name }); i >= 0 {
		return &p.Keys[i]
	}
	return nil
}

// perMillion returns a price in USD per million tokens.
func perMillion(p price.Price) *float64 {
	usd := p.PerMillion()
	return &usd
}

// ModelFiles implements page.Disk: the files in the folder for models and in those of the
// servers' models. The need is that of a server for which the configuration sets nothing.
func (d *Daemon) ModelFiles(ctx context.Context) (control.ModelFiles, error) {
	d.serversMu.Lock()
	cfg := d.setup.Config
	d.serversMu.Unlock()
	r := modelfiles.Request{Folders: []string{cfg.ModelsDir()}, Box: d.fitBox(ctx, cfg.GPU.Devices), Run: config.DefaultServer().Run()}
	for _, s := range d.servers() {
		entry := s.launch.entry
		if path := located(s.name, cfg).Model; path != "" {
			r.Used = append(r.Used, path)
			r.Folders = append(r.Folders, filepath.Dir(path))
		}
		for _, arg := range slices.Concat(entry.Args, entry.Argv) { // projectors, draft models, the models of other engines
			_, value, _ := strings.Cut(arg, "=")
			r.Used = append(r.Used, arg, value)
		}
	}
	slices.Sort(r.Folders[1:])
	r.Folders = slices.Compact(r.Folders)
	r.Used = slices.DeleteFunc(r.Used, func(path string) bool { return !strings.EqualFold(filepath.Ext(path), ".gguf") })
	return d.modelFiles.List(ctx, r)
}

// fitBox returns the GPUs of a selection on which a model could be loaded, once they have been read.
// What llmsup's models hold counts as free.
func (d *Daemon) fitBox(ctx context.Context, devices string) fit.Box {
	s := d.monitor.Sample()
	for ; s.At.IsZero() && ctx.Err() == nil; s = d.monitor.Sample() {
		select {
		case <-ctx.Done():
		case <-s.Changed:
		}
	}
	var own []int
	for _, o := range d.gpuServers() {
		own = append(own, o.PIDs...)
	}
	return fit.BoxOf(s, devices, own)
}

// usesOf returns how the servers whose model a reference is will run it, else how one does for which
// the configuration sets nothing; ctxSize is in tokens, 0 = that of the server.
func (d *Daemon) usesOf(ctx context.Context, ref hub.Ref, ctxSize int) (uses []fit.Use) {
	d.serversMu.Lock()
	cfg := d.setup.Config
	d.serversMu.Unlock()
	servers := cfg.ServersOf(ref.String())
	if len(servers) == 0 {
		servers = append(servers, config.DefaultServer())
	}
	for _, s := range servers {
		s.CtxSize = cmp.Or(ctxSize, s.CtxSize)
		uses = append(uses, fit.Use{Run: s.Run(), Box: d.fitBox(ctx, cfg.DevicesOf(s))})
	}
	return uses
}

// Fit implements page.Disk.
func (d *Daemon) Fit(ctx context.Context, text string, ctxSize int) (control.Fit, error) {
	ref, err := hub.ParseRef(text)
	if err != nil {
		return control.Fit{}, err
	}
	return fit.Reference(ctx, ref, d.usesOf(ctx, ref, ctxSize))
}
