package lease

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/usd"
)

// TestLostRecord: when a record goes back to an earlier one, or is gone, a box that knew it enters
// what it holds, spends that, and takes no more.
func TestLostRecord(t *testing.T) {
	for name, lose := range map[string]func(w *world, key string){
		"sent again": func(w *world, key string) { w.history[key] = append(w.history[key], w.history[key][0]) },
		"sent again, and changed by a box that knew no later one": func(w *world, key string) {
			old := new(*w.history[key][0])
			old.Holders, old.Version = nil, w.history[key][len(w.history[key])-1].Version+1
			w.history[key] = append(w.history[key], old)
		},
		"gone": func(w *world, key string) { delete(w.history, key) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, budget.Config{Limits: budget.Limits{Daily: new(usd.Dollar)}})
				w.faults = false
				a, b := w.boxes[0], w.boxes[1]
				w.supplyAll()
				if !a.begin("", cent) || !b.begin("", cent) {
					t.Fatal("no credit")
				}
				w.supplyAll()
				time.Sleep(reportInterval + time.Second)
				w.supplyAll() // what is spent is entered
				key := windowKey(windows("", a.now())[0])
				lose(w, key)
				a.leaser.noteChange(key)
				for range maxOlder + 3 {
					_ = a.leaser.supplyAll(t.Context(), a.session())
					time.Sleep(2 * time.Second)
				}
				a.leaser.publish(nil)
				s := a.leaser.Status([]string{"box0", "box1", "box2"})
				if len(s.Limits) != 1 || !s.Limits[0].Lost || s.Limits[0].Granted <= 0 {
					t.Fatalf("%+v", s)
				}
				list := w.history[key]
				held := list[len(list)-1]
				lease := a.budget.Leases(a.now())[0]
				if at := held.index(lease.Unique); at < 0 || held.Holders[at].Granted != lease.Granted {
					t.Errorf("the record is %+v, and the box has %s", held, lease.Granted)
				}
				for a.begin("", cent) {
				}
				_ = a.leaser.supplyAll(t.Context(), a.session())
				if a.begin("", cent) {
					t.Error("the box has taken more")
				}
			})
		})
	}
}

// TestWarning: each box warns once that most of a limit is spent, by whichever box.
func TestWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, budget.Config{Limits: budget.Limits{Daily: new(usd.Dollar)}})
		w.faults = false
		a, b := w.boxes[0], w.boxes[1]
		var log strings.Builder
		b.leaser.o.Log = zerolog.New(&log)
		for spent := 5 * cent; spent <= 90*cent; spent += 5 * cent {
			for !a.begin("", 5*cent) {
				w.supplyAll()
			}
			a.end(0, 5*cent)
			time.Sleep(reportInterval + time.Second)
			w.supplyAll()
			for _, box := range w.boxes {
				box.leaser.noteConnection("")
			}
			if warned := log.Len() > 0; warned != (spent >= 80*cent) {
				t.Fatalf("after %s: %q", spent, log.String())
			}
		}
		if strings.Count(log.String(), "80 % of the fleet's budget of 1 USD is spent") != 1 {
			t.Error(log.String())
		}
	})
}

// TestRecordOfOtherVersion: a record with fields that this version does not know is read.
func TestRecordOfOtherVersion(t *testing.T) {
	r, err := decode("daily.2026-11-30", []byte(`{"window":"daily.2026-11-30","version":3,"limit":"1","limit_version":2,"pool":{"a":1},`+
		`"holders":[{"box":"a","lease":"l","granted":"0.5","spent":"0.25","at":"2026-11-30T10:00:00Z","rate":[1]}]}`))
	if err != nil || r.Version != 3 || len(r.Holders) != 1 || r.Holders[0].Granted != usd.Dollar/2 || r.Holders[0].Spent != usd.Dollar/4 {
		t.Errorf("%+v, %v", r, err)
	}
}
