package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/llmsup/llmsup/models/hub"
)

// progressLineInterval is the time between two lines where there is no terminal.
const progressLineInterval = 10 * time.Second

// pullProgress shows how far a download is: as a bar on a terminal, as a line now and then
// elsewhere. Rate and time left are those of the bytes that arrive, without what was there
// before.
type pullProgress struct {
	out  *os.File
	bar  *progressbar.ProgressBar // nil until the first report, and without a terminal
	live bool

	mu       sync.Mutex
	last     hub.Progress
	began    time.Time
	lineAt   time.Time
	arriving int64 // bytes at which the bar is full
}

func newPullProgress(out *os.File) *pullProgress {
	now := time.Now()
	return &pullProgress{out: out, live: isTerminal(out) && os.Getenv("TERM") != "dumb", began: now, lineAt: now}
}

// report shows a progress.
func (s *pullProgress) report(p hub.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	phaseChanged := p.Phase != s.last.Phase && p.Phase != hub.Downloading
	s.last = p
	if s.live {
		s.draw(p)
		return
	}
	if now := time.Now(); phaseChanged || now.Sub(s.lineAt) >= progressLineInterval {
		s.lineAt = now
		fmt.Fprintln(s.out, s.line(p))
	}
}

// draw shows a progress as a bar.
func (s *pullProgress) draw(p hub.Progress) {
	arriving := int64(-1)
	if p.Total >= 0 {
		arriving = p.Total - p.Before
	}
	if s.bar == nil {
		s.arriving = arriving
		theme := progressbar.ThemeASCII
		if displayOf(s.out).unicode {
			theme = progressbar.ThemeUnicode
		}
		s.bar = progressbar.NewOptions64(arriving,
			progressbar.OptionSetWriter(s.out), progressbar.OptionFullWidth(), progressbar.OptionUseIECUnits(true),
			progressbar.OptionShowBytes(true), progressbar.OptionShowTotalBytes(true), progressbar.OptionShowCount(),
			progressbar.OptionSetPredictTime(true), progressbar.OptionUseANSICodes(true), progressbar.OptionSetTheme(theme))
	}
	if arriving != s.arriving {
		s.arriving = arriving
		s.bar.ChangeMax64(arriving)
	}
	if p.Phase != hub.Downloading {
		s.bar.Describe(string(p.Phase))
	} else {
		s.bar.Describe("")
	}
	_ = s.bar.Set64(p.Done - p.Before) // an error of the terminal is no reason to end a download
}

// line returns a progress as a line.
func (s *pullProgress) line(p hub.Progress) string {
	switch p.Phase {
	case hub.Waiting:
		return "another llmsup downloads this file; waiting for it"
	case hub.Verifying:
		return "comparing the SHA-256"
	case hub.Downloading:
	}
	rate := float64(p.Done-p.Before) / time.Since(s.began).Seconds()
	text := hub.Size(p.Done)
	if p.Total > 0 {
		text += fmt.Sprintf(" of %s, %s", hub.Size(p.Total), percent(p.Done, p.Total))
	}
	if rate >= 1 {
		text += fmt.Sprintf(", %s/s", hub.Size(int64(rate)))
		if p.Total > 0 {
			text += fmt.Sprintf(", %s left", duration(time.Duration(float64(p.Total-p.Done)/rate*float64(time.Second))))
		}
	}
	return text
}

// interrupt prints something else than the progress.
func (s *pullProgress) interrupt(print func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar != nil {
		_ = s.bar.Clear() // as above
	}
	print()
}

// end ends the bar, so that what follows is below it.
func (s *pullProgress) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar != nil {
		fmt.Fprintln(s.out)
	}
}
