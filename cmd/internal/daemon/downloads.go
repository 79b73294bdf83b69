package daemon

import (
	"context"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/downloads"
	"github.com/llmsup/llmsup/cmd/internal/fit"
	"github.com/llmsup/llmsup/cmd/internal/placement"
	"github.com/llmsup/llmsup/models/hub"
	"github.com/llmsup/llmsup/supervisor"
)

// This file connects the servers with the downloads of their models.

// openDownloads makes what downloads models. Nothing is downloaded yet.
func (d *Daemon) openDownloads() {
	d.downloads = downloads.New(d.serverContext, downloads.Options{
		Dir: d.setup.Config.ModelsDir(), Fetch: downloads.FromHub(d.setup.Config.ModelsDir(), d.chooseVariant, d.log), Arrived: d.modelArrived, Log: d.log,
	})
}

// chooseVariant chooses among the quantisations of a repository: the largest that fits with the
// settings of the servers whose model it is.
func (d *Daemon) chooseVariant(ctx context.Context, client *hub.Client, listing hub.Listing) (hub.Variant, error) {
	v, why, err := fit.Choose(ctx, client, listing, d.usesOf(ctx, listing.Ref, 0))
	if err == nil {
		d.log.Info().Str("model", listing.Ref.String()).Msg("chose " + v.Name() + ": " + why)
	}
	return v, err
}

// needModels has the models downloaded that servers of the configuration need.
func (d *Daemon) needModels(cfg *config.Config) {
	var refs []string
	for _, entry := range cfg.Servers {
		if ref := entry.Ref(); ref != "" {
			refs = append(refs, ref)
		}
	}
	d.downloads.Need(refs)
}

// located returns a server of the configuration with the path of its model; "" = it is not
// downloaded yet.
func located(name string, cfg *config.Config) config.Server {
	entry := cfg.Servers[name]
	if ref := entry.Ref(); ref != "" {
		entry.Model, _ = downloads.Find(cfg.ModelsDir(), ref)
	}
	return entry
}

// gate returns the GPU of a server: if its model is downloaded, it starts once that is done.
func (d *Daemon) gate(entry config.Server, path string, w *placement.Workload) supervisor.GPU {
	if ref := entry.Ref(); ref != "" {
		return downloads.Gate{GPU: w, Model: d.downloads, Ref: ref, Path: path}
	}
	return w
}

// modelArrived has the servers use a model that is downloaded now.
func (d *Daemon) modelArrived(ref string) {
	for _, s := range d.useModel(ref) {
		s.workload.Estimate() // without a lock that a stop needs: reading files may hang
	}
}

func (d *Daemon) useModel(ref string) (users []*managedServer) {
	d.serversMu.Lock()
	defer d.serversMu.Unlock()
	cfg := d.setup.Config
	for _, s := range d.servers() {
		if s.removed || cfg.Servers[s.name].Ref() != ref {
			continue
		}
		s.workload.ApplyConfig(located(s.name, cfg), cfg)
		s.server.UpdateSpec(d.spec(s.name, s.launch, s.workload, cfg))
		users = append(users, s)
	}
	return users
}

// downloading returns the download of a server's model; ok is false if it is there.
func (d *Daemon) downloading(s *managedServer) (now downloads.State, ok bool) {
	ref := s.launch.entry.Ref()
	if ref == "" || s.removed {
		return now, false
	}
	now = d.downloads.State(ref)
	return now, now.Path == ""
}

// absent returns why the model of a server is not there, and when it is expected; zero = unknown.
func (d *Daemon) absent(s *managedServer) (reason string, until time.Time) {
	now, ok := d.downloading(s)
	if !ok {
		return "", time.Time{}
	}
	if now.Left > 0 {
		until = time.Now().Add(now.Left)
	}
	return now.Reason(), until
}
