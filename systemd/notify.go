// Package systemd is what llmsup says to the systemd that runs it, and what it
// is given by it: the notify protocol (sd_notify(3)), the watchdog, and the
// socket of llmsup.socket (sd_listen_fds(3)). Where no systemd runs it, nothing
// is said and nothing is given. cmd/internal/daemon speaks, cmd/llmsup's start
// takes the socket. The unit files lie beside it.
package systemd

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Manager is the systemd that runs this process. The zero value is none, which
// takes every word and does nothing.
type Manager struct {
	listens  bool
	watchdog time.Duration
}

// Find looks whether a systemd runs this process, and waits for words of it.
// What it finds for the watchdog it takes out of the environment. It is called
// once, at the start.
func Find() (Manager, error) {
	m := Manager{listens: os.Getenv("NOTIFY_SOCKET") != ""}
	var err error
	if m.watchdog, err = daemon.SdWatchdogEnabled(true); err != nil {
		return m, fmt.Errorf("systemd's watchdog: %w; correct WatchdogSec= in the unit", err)
	}
	return m, nil
}

// Ready says that calls are taken, or that a reload is over. An empty status
// leaves the last one.
func (m Manager) Ready(status string) error {
	if status == "" {
		return m.say(daemon.SdNotifyReady)
	}
	return m.say(daemon.SdNotifyReady, "STATUS="+oneLine(status))
}

// Reloading says that the configuration is read again, until Ready is said. A
// reload by `systemctl reload` is over when a Ready has followed a Reloading of
// a later time than its own, on the monotonic clock.
func (m Manager) Reloading() error {
	return m.say(daemon.SdNotifyReloading, strings.TrimSuffix(daemon.SdNotifyMonotonicUsec(), "\n"))
}

// Stopping says that the shutdown has begun.
func (m Manager) Stopping(status string) error {
	return m.say(daemon.SdNotifyStopping, "STATUS="+oneLine(status))
}

// Status is a line for people, which `systemctl status` shows.
func (m Manager) Status(text string) error { return m.say("STATUS=" + oneLine(text)) }

// Alive is what the watchdog waits for.
func (m Manager) Alive() error { return m.say(daemon.SdNotifyWatchdog) }

// Watchdog returns how long systemd waits for Alive before it ends the process;
// 0 = it does not wait for it.
func (m Manager) Watchdog() time.Duration {
	if !m.listens {
		return 0
	}
	return m.watchdog
}

// Listens says whether there is a systemd that waits for words.
func (m Manager) Listens() bool { return m.listens }

func (m Manager) say(words ...string) error {
	if !m.listens {
		return nil
	}
	// All of them in one datagram: what belongs together arrives together.
	if _, err := daemon.SdNotify(false, strings.Join(words, "\n")); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}

// oneLine keeps a text from being taken for more than one word: lines are what
// the protocol's words are told apart by.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' || r == 0 }), " ")
}
