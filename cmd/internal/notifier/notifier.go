// Package notifier notifies systemd, if it runs llmsup: of readiness, the states of the servers, a
// reload, a stop, and regularly, for the watchdog, that llmsup is alive. The daemon makes the one
// Notifier.
package notifier

import (
	"context"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/supervisor"
	"github.com/llmsup/llmsup/systemd"
)

// Options are what a Notifier works with.
type Options struct {
	Systemd systemd.Manager
	Servers func() (list []*supervisor.Server, changed <-chan struct{}) // changed is closed when another list replaces it
	Log     zerolog.Logger
}

// Notifier sends the notifications. A failed one is logged and has no other effect.
type Notifier struct {
	Options
	sent           string                 // the last status line; Ready sets it before WatchStates uses it
	reloadErrorSet chan struct{}          // receives when reloadError has changed
	reloadError    atomic.Pointer[string] // of the last reload; nil = it succeeded
}

// New returns a Notifier.
func New(o Options) *Notifier { return &Notifier{Options: o, reloadErrorSet: make(chan struct{}, 1)} }

// Ready sends that llmsup accepts calls.
func (n *Notifier) Ready() {
	n.sent = n.statusLine()
	n.logError(n.Systemd.Ready(n.sent))
}

// Reloading sends that a reload begins. The caller calls end when it has ended.
func (n *Notifier) Reloading() (end func()) {
	n.logError(n.Systemd.Reloading())
	return func() { n.logError(n.Systemd.Ready("")) }
}

// Stopping sends that llmsup stops.
func (n *Notifier) Stopping() { n.logError(n.Systemd.Stopping("waiting for running calls")) }

// maxStatus limits the status line that systemd shows, in bytes.
const maxStatus = 300

// statusLine returns the states of all servers, and the error of the last reload, in one
// line.
func (n *Notifier) statusLine() string {
	var parts []string
	servers, _ := n.Servers()
	for _, s := range servers {
		parts = append(parts, serverLine(s.Snapshot()))
	}
	if len(parts) == 0 {
		parts = []string{"no local servers; calls go to upstreams"}
	}
	if reloadErr := n.reloadError.Load(); reloadErr != nil {
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

// logError logs an error of a notification.
func (n *Notifier) logError(err error) {
	if err != nil {
		n.Log.Warn().Err(err).Msg("cannot notify systemd")
	}
}

// WatchStates sends the status line whenever it changes, until ctx ends.
func (n *Notifier) WatchStates(ctx context.Context) {
	if !n.Systemd.Listens() {
		return
	}
	for {
		cases := []reflect.SelectCase{receive(ctx.Done()), receive(n.reloadErrorSet)}
		servers, changed := n.Servers()
		cases = append(cases, receive(changed))
		for _, s := range servers {
			cases = append(cases, receive(s.Snapshot().Changed))
		}
		if line := n.statusLine(); line != n.sent {
			n.sent = line
			n.logError(n.Systemd.Status(line))
		}
		if i, _, _ := reflect.Select(cases); i == 0 {
			return
		}
	}
}

// SetReloadError stores the error of the last reload, and has the status line updated; nil = it
// succeeded.
func (n *Notifier) SetReloadError(err error) {
	var message *string
	if err != nil {
		text := err.Error()
		message = &text
	}
	n.reloadError.Store(message)
	select {
	case n.reloadErrorSet <- struct{}{}:
	default: // a change is pending already
	}
}

func receive(c <-chan struct{}) reflect.SelectCase {
	return reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(c)}
}

// maxHeartbeatAge limits the time since the last heartbeat of a server's owner goroutine. Its
// longest step is to ask a llama-server for its flags, 10 s.
const maxHeartbeatAge = 30 * time.Second

// FeedWatchdog notifies systemd that llmsup is alive, until ctx ends. It stops while the
// owner goroutine of a server hangs, so that systemd restarts llmsup.
func (n *Notifier) FeedWatchdog(ctx context.Context) {
	within := n.Systemd.Watchdog()
	if within == 0 {
		return
	}
	tick := time.NewTicker(within / 3)
	defer tick.Stop()
	hung := ""
	for {
		was := hung
		if hung = n.hungServer(); hung == "" {
			n.logError(n.Systemd.Alive())
		} else if was == "" {
			n.Log.Error().Str("server", hung).Msg("the goroutine that owns this server's state hangs; systemd restarts llmsup unless it continues in time")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// hungServer returns a server whose owner goroutine hangs; "" = none.
func (n *Notifier) hungServer() string {
	servers, _ := n.Servers()
	for _, s := range servers {
		if time.Since(s.LastHeartbeat()) > maxHeartbeatAge {
			return s.Snapshot().Name
		}
	}
	return ""
}
