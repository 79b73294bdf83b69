package supervisor

import (
	"testing"
	"time"
)

func TestPauses(t *testing.T) {
	var h history
	for i, want := range []time.Duration{
		time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second,
		time.Minute, time.Minute,
	} {
		h = h.after(Killed, 0)
		if got, giveUp := h.decide(0); got != want || giveUp {
			t.Errorf("pause after failure %d is %s (give up: %t), want %s", i+1, got, giveUp, want)
		}
		if got, _ := h.decide(0.999); got < want*79/100 || got >= want {
			t.Errorf("pause after failure %d with jitter is %s, want within [%s, %s)", i+1, got, want*79/100, want)
		}
	}
	h.failures = 1 << 40
	if got, _ := h.decide(0); got != time.Minute {
		t.Errorf("after very many failures: %s", got)
	}
}

func TestHealthResetsTheBackoff(t *testing.T) {
	h := history{failures: 6, class: Killed, same: 6}
	if got := h.after(Killed, 9*time.Minute); got.failures != 7 {
		t.Errorf("after 9 minutes of health: %+v", got)
	}
	if got := h.after(Killed, 10*time.Minute); got != (history{failures: 1, class: Killed, same: 1}) {
		t.Errorf("after 10 minutes of health: %+v", got)
	}
}

func TestGivingUp(t *testing.T) {
	for name, tc := range map[string]struct {
		ends []Class
		want bool
	}{
		"once":                   {[]Class{BadFlag}, false},
		"twice":                  {[]Class{BadFlag, BadFlag}, true},
		"twice, another cause":   {[]Class{BadFlag, ModelCorrupt}, false},
		"interrupted":            {[]Class{ModelCorrupt, Killed, ModelCorrupt}, false},
		"again and again":        {[]Class{Killed, Killed, Killed, Killed}, false},
		"VRAM can be released":   {[]Class{OutOfVRAM, OutOfVRAM, OutOfVRAM}, false},
		"a port can be freed":    {[]Class{PortTaken, PortTaken}, false},
		"a missing model":        {[]Class{Killed, ModelMissing, ModelMissing}, true},
		"a hang":                 {[]Class{Hung, Hung}, false},
		"an illegal instruction": {[]Class{IllegalInstruction, IllegalInstruction}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var h history
			for _, class := range tc.ends {
				h = h.after(class, 0)
			}
			if _, got := h.decide(0); got != tc.want {
				t.Errorf("give up: %t, want %t", got, tc.want)
			}
		})
	}
}
