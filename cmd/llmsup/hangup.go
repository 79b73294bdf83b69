package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// hangups tells of each SIGHUP what it means: true where the terminal that llmsup
// was started on is gone, which ends it as it ends every program there; false
// where an operator, or systemd, wants the configuration read again. Under nohup
// a terminal may go.
func hangups() <-chan bool {
	onTerminal := !signal.Ignored(syscall.SIGHUP) && hasTerminal()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	told := make(chan bool)
	go func() {
		for range signals {
			told <- onTerminal && terminalGoes()
		}
	}()
	return told
}

const (
	terminalLook  = 20 * time.Millisecond
	terminalLooks = 25
)

// terminalGoes says whether the terminal is gone, or is about to be: the signal
// may come before it.
func terminalGoes() bool {
	for range terminalLooks {
		if !hasTerminal() {
			return true
		}
		time.Sleep(terminalLook)
	}
	return false
}

// hasTerminal says whether the process has a controlling terminal, and that is
// still there (tty(4)).
func hasTerminal() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	_ = f.Close() // it was only looked for
	return true
}
