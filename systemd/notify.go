// Package systemd implements the service side of systemd's protocols: notifications
// (sd_notify(3)), the watchdog, and the socket of llmsup.socket (sd_listen_fds(3)).
// Without systemd all of it does nothing. cmd/internal/daemon sends the notifications;
// cmd/llmsup's start takes the socket. The package starts no process and never calls
// systemctl. The unit files are in its folder.
package systemd

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Manager is the systemd that runs this process. The zero value means no systemd: its
// methods do nothing.
type Manager struct {
	listens  bool
	watchdog time.Duration
}

// Find returns the systemd that runs this process and expects its notifications. It
// removes the watchdog's variables from the environment, so it is called once, at the
// start.
func Find() (Manager, error) {
	m := Manager{listens: os.Getenv("NOTIFY_SOCKET") != ""}
	var err error
	if m.watchdog, err = daemon.SdWatchdogEnabled(true); err != nil {
		return m, fmt.Errorf("systemd's watchdog: %w; correct WatchdogSec= in the unit", err)
	}
	return m, nil
}

// Ready reports that llmsup listens, or that a reload has ended. An empty status keeps
// the last one.
func (m Manager) Ready(status string) error {
	if status == "" {
		return m.send(daemon.SdNotifyReady)
	}
	return m.send(daemon.SdNotifyReady, "STATUS="+oneLine(status))
}

// Reloading reports that a reload has begun; Ready ends it. `systemctl reload` waits for
// a Ready after a Reloading whose time, on the monotonic clock, is later than its own.
func (m Manager) Reloading() error {
	return m.send(daemon.SdNotifyReloading, strings.TrimSuffix(daemon.SdNotifyMonotonicUsec(), "\n"))
}

// Stopping reports that the shutdown has begun.
func (m Manager) Stopping(status string) error {
	return m.send(daemon.SdNotifyStopping, "STATUS="+oneLine(status))
}

// Status sets the line that `systemctl status` shows.
func (m Manager) Status(text string) error { return m.send("STATUS=" + oneLine(text)) }

// Alive resets the watchdog.
func (m Manager) Alive() error { return m.send(daemon.SdNotifyWatchdog) }

// Watchdog returns how long systemd waits for Alive before it kills the process; 0 = no
// watchdog.
func (m Manager) Watchdog() time.Duration {
	if !m.listens {
		return 0
	}
	return m.watchdog
}

// Listens reports whether systemd expects notifications.
func (m Manager) Listens() bool { return m.listens }

func (m Manager) send(assignments ...string) error {
	if !m.listens {
		return nil
	}
	// One datagram, so that systemd applies all assignments together.
	if _, err := daemon.SdNotify(false, strings.Join(assignments, "\n")); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// oneLine removes line breaks, which would separate assignments in the protocol.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' || r == 0 }), " ")
}
