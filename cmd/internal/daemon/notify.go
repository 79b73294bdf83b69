package daemon

import (
	"context"
	"reflect"
	"strings"
	"time"

	"github.com/llmsup/llmsup/supervisor"
)

// What systemd is told, where one runs llmsup: that calls are taken, how the
// servers are, that a reload goes on, that the end has begun, and again and
// again that llmsup is not stuck. A word that does not get through keeps nobody
// from anything.

// maxStatus bounds the line that systemd shows, in bytes.
const maxStatus = 300

// statusLine says in a line how all servers are, and whether the last reload
// was refused.
func (d *Daemon) statusLine() string {
	var parts []string
	for _, s := range d.servers() {
		parts = append(parts, serverLine(s.server.Snapshot()))
	}
	if len(parts) == 0 {
		parts = []string{"no server of its own; calls go to upstreams"}
	}
	if refused := d.reloadError.Load(); refused != nil {
		parts = append([]string{"the last reload was refused: " + *refused}, parts...)
	}
	line := strings.Join(parts, "; ")
	if len(line) > maxStatus {
		line = strings.ToValidUTF8(line[:maxStatus], "") + "..."
	}
	return line
}

func serverLine(now *supervisor.Snapshot) string {
	line := now.Name + " " + now.State.String()
	if now.Reason != "" {
		line += ": " + now.Reason
	}
	return line
}

// logNotifyError is for words whose loss is no more than worth a line.
func (d *Daemon) logNotifyError(err error) {
	if err != nil {
		d.log.Warn().Err(err).Msg("systemd does not hear")
	}
}

// notifyStateChanges tells of every change of a server's state, and of a reload that was
// refused, until ctx ends. told is what has been told already.
func (d *Daemon) notifyStateChanges(ctx context.Context, told string) {
	if !d.opts.Systemd.Listens() {
		return
	}
	for {
		cases := []reflect.SelectCase{receive(ctx.Done()), receive(d.reloadErrorSet)}
		all := d.fleet.Load()
		cases = append(cases, receive(all.changed))
		for _, s := range all.servers {
			cases = append(cases, receive(s.server.Snapshot().Changed))
		}
		if line := d.statusLine(); line != told {
			told = line
			d.logNotifyError(d.opts.Systemd.Status(line))
		}
		if i, _, _ := reflect.Select(cases); i == 0 {
			return
		}
	}
}

// notifyReloadError remembers why the last reload was refused; nil = it was not.
func (d *Daemon) notifyReloadError(err error) {
	var words *string
	if err != nil {
		text := err.Error()
		words = &text
	}
	d.reloadError.Store(words)
	select {
	case d.reloadErrorSet <- struct{}{}:
	default: // so it is already
	}
}

func receive(c <-chan struct{}) reflect.SelectCase {
	return reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(c)}
}

// maxHeartbeatAge is how long a server's owner may take for what it does in one
// go. The longest is to ask a llama-server for its flags, 10 s.
const maxHeartbeatAge = 30 * time.Second

// feedWatchdog tells systemd that llmsup is alive, until ctx ends, unless the
// owner of a server is stuck: then systemd starts llmsup anew.
func (d *Daemon) feedWatchdog(ctx context.Context) {
	within := d.opts.Systemd.Watchdog()
	if within == 0 {
		return
	}
	tick := time.NewTicker(within / 3)
	defer tick.Stop()
	stuck := ""
	for {
		was := stuck
		if stuck = d.hungServer(); stuck == "" {
			d.logNotifyError(d.opts.Systemd.Alive())
		} else if was == "" {
			d.log.Error().Str("server", stuck).Msg("llmsup is stuck: whoever owns this server's state has not come back from what it does; systemd's watchdog hears nothing until it has")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// hungServer names a server whose owner does not come back; "" = there is none.
func (d *Daemon) hungServer() string {
	for _, s := range d.servers() {
		if time.Since(s.server.LastHeartbeat()) > maxHeartbeatAge {
			return s.name
		}
	}
	return ""
}
