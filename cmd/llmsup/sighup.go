package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// watchSIGHUP sends a value for each SIGHUP: true if the terminal that llmsup was
// started on has been closed, which stops llmsup as it stops every program on it, and
// false if an operator or systemd wants the configuration reloaded. Under nohup a
// closed terminal is ignored.
func watchSIGHUP() <-chan bool {
	onTerminal := !signal.Ignored(syscall.SIGHUP) && hasTerminal()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	received := make(chan bool)
	go func() {
		for range signals {
			received <- onTerminal && terminalCloses()
		}
	}()
	return received
}

const (
	terminalPollInterval = 20 * time.Millisecond
	terminalPolls        = 25
)

// terminalCloses reports whether the terminal is closed or closes within half a
// second: the signal may arrive before the terminal is gone.
func terminalCloses() bool {
	for range terminalPolls {
		if !hasTerminal() {
			return true
		}
		time.Sleep(terminalPollInterval)
	}
	return false
}

// hasTerminal reports whether the process has a controlling terminal that is still
// open (tty(4)).
func hasTerminal() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	_ = f.Close() // only whether it opens matters
	return true
}
