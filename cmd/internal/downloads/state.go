package downloads

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/llmsup/llmsup/models/hub"
)

// State is a download at one moment.
type State struct {
	Ref  string
	Path string // of the model, of a split one its first part; "" = it is not there yet

	Phase       hub.Phase     // "" = it has not begun
	Done, Total int64         // bytes; Total -1 = unknown
	Rate        float64       // bytes per second, of the last seconds; 0 = unknown
	Left        time.Duration // 0 = unknown
	Advanced    time.Time     // when there were more bytes than ever before, or it began

	Problem string    // why the last try failed; "" = it runs
	NextTry time.Time // zero = it runs
}

// Reason returns the state in one line, for the reason of a server.
func (s State) Reason() string {
	switch {
	case s.Path != "":
		return "its model is downloaded"
	case s.Problem != "":
		return fmt.Sprintf("its model cannot be downloaded: %s; next try in %s", s.Problem, max(time.Until(s.NextTry), 0).Round(time.Second))
	case s.Phase == "":
		return "its model is about to be downloaded"
	case s.Phase == hub.Waiting:
		return "another llmsup downloads its model; waiting for that"
	case s.Phase == hub.Verifying:
		return "checking the SHA-256 of its model"
	}
	text := "downloading, " + size(s.Done) + " so far"
	if s.Total > 0 {
		text = fmt.Sprintf("downloading %d %% of %s", s.Done*100/s.Total, size(s.Total))
	}
	if s.Rate > 0 {
		text += fmt.Sprintf(", %s/s", size(int64(s.Rate)))
	}
	if s.Left > 0 {
		text += ", " + inWords(s.Left) + " left"
	}
	return text
}

// size returns a number of bytes as text. Hubs and browsers count in powers of 1000.
func size(bytes int64) string { return humanize.Bytes(uint64(max(bytes, 0))) }

// inWords rounds a duration as a person would.
func inWords(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(int(d.Round(time.Second).Seconds()), 1))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute).Minutes()))
	}
	return fmt.Sprintf("%d h", int(d.Round(time.Hour).Hours()))
}

// rateOver is the time over which the rate is measured.
const rateOver = 10 * time.Second

// meter measures the rate of a download.
type meter struct{ samples []sample }

type sample struct {
	at   time.Time
	done int64
}

// add returns the rate in bytes per second; 0 = not known yet.
func (m *meter) add(at time.Time, done int64) float64 {
	if n := len(m.samples); n == 0 || at.Sub(m.samples[n-1].at) >= rateOver/20 {
		m.samples = append(m.samples, sample{at, done})
	}
	for len(m.samples) > 2 && at.Sub(m.samples[1].at) >= rateOver {
		m.samples = m.samples[1:]
	}
	first := m.samples[0]
	if seconds := at.Sub(first.at).Seconds(); seconds >= 1 && done > first.done {
		return float64(done-first.done) / seconds
	}
	return 0
}
