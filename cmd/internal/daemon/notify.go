package daemon

import (
	"context"
	"reflect"
	"strings"
	"time"

	"github.com/llmsup/llmsup/supervisor"
)

// This file notifies systemd, if it runs llmsup: of readiness, the states of the servers,
// a reload, a stop, and regularly, for the watchdog, that llmsup is alive. A failed
// notification is logged and has no other effect.

// maxStatus limits the status line that systemd shows, in bytes.
const maxStatus = 300

// statusLine returns the states of all servers, and the error of the last reload, in one
// line.
func (d *Daemon) statusLine() string {
	var parts []string
	for _, s := range d.servers() {
		parts = append(parts, serverLine(s.server.Snapshot()))
	}
	if len(parts) == 0 {
		parts = []string{"no local servers; calls go to upstreams"}
	}
	if reloadErr := d.reloadError.Load(); reloadErr != nil {
		parts = append([]string{"the last reload was refused: " + *reloadErr}, parts...)
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

// logNotifyError logs an error of a notification.
func (d *Daemon) logNotifyError(err error) {
	if err != nil {
		d.log.Warn().Err(err).Msg("cannot notify systemd")
	}
}

// notifyStateChanges sends the status line to systemd whenever it changes, until ctx ends.
// sent is the line that it has already.
func (d *Daemon) notifyStateChanges(ctx context.Context, sent string) {
	if !d.opts.Systemd.Listens() {
		return
	}
	for {
		cases := []reflect.SelectCase{receive(ctx.Done()), receive(d.reloadErrorSet)}
		all := d.serverList.Load()
		cases = append(cases, receive(all.changed))
		for _, s := range all.servers {
			cases = append(cases, receive(s.server.Snapshot().Changed))
		}
		if line := d.statusLine(); line != sent {
			sent = line
			d.logNotifyError(d.opts.Systemd.Status(line))
		}
		if i, _, _ := reflect.Select(cases); i == 0 {
			return
		}
	}
}

// notifyReloadError stores the error of the last reload, and has the status line updated; nil = it
// succeeded.
func (d *Daemon) notifyReloadError(err error) {
	var message *string
	if err != nil {
		text := err.Error()
		message = &text
	}
	d.reloadError.Store(message)
	select {
	case d.reloadErrorSet <- struct{}{}:
	default: // a change is pending already
	}
}

func receive(c <-chan struct{}) reflect.SelectCase {
	return reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(c)}
}

// maxHeartbeatAge limits the time since the last heartbeat of a server's owner goroutine. Its
// longest step is to ask a llama-server for its flags, 10 s.
const maxHeartbeatAge = 30 * time.Second

// feedWatchdog notifies systemd that llmsup is alive, until ctx ends. It stops while the
// owner goroutine of a server hangs, so that systemd restarts llmsup.
func (d *Daemon) feedWatchdog(ctx context.Context) {
	within := d.opts.Systemd.Watchdog()
	if within == 0 {
		return
	}
	tick := time.NewTicker(within / 3)
	defer tick.Stop()
	hung := ""
	for {
		was := hung
		if hung = d.hungServer(); hung == "" {
			d.logNotifyError(d.opts.Systemd.Alive())
		} else if was == "" {
			d.log.Error().Str("server", hung).Msg("the goroutine that owns this server's state hangs; systemd restarts llmsup unless it continues in time")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// hungServer returns a server whose owner goroutine hangs; "" = none.
func (d *Daemon) hungServer() string {
	for _, s := range d.servers() {
		if time.Since(s.server.LastHeartbeat()) > maxHeartbeatAge {
			return s.name
		}
	}
	return ""
}
