package lease

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/usd"
)

// TestLostRecord: when a record is lost, the boxes put it together again with what they know: what a
// box held that is gone is not forgotten, no box takes more before all others have added what they
// know, and then all of the rest can be spent. A box that has started since does no harm.
func TestLostRecord(t *testing.T) {
	for name, lose := range map[string]func(w *world, key string){
		"sent again": func(w *world, key string) { w.history[key] = append(w.history[key], w.history[key][0]) },
		"sent again, and changed by a box that knew no later one": func(w *world, key string) {
			old := new(*w.history[key][0])
			old.Holders, old.Version = nil, w.history[key][len(w.history[key])-1].Version+1
			w.history[key] = append(w.history[key], old)
		},
		"gone":            func(w *world, key string) { delete(w.history, key) },
		"overwritten":     func(w *world, key string) { w.history[key] = append(w.history[key], nil) },
		"gone, then none": func(w *world, key string) { w.history[key] = []*Record{nil} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, budget.Config{Limits: budget.Limits{Daily: new(usd.Dollar)}})
				w.faults = false
				w.supplyAll()
				gone := w.boxes[2]
				for i, paid := range []usd.Amount{cent, cent, 50 * cent} {
					for !w.boxes[i].begin("", paid) {
						w.supplyAll()
					}
					w.boxes[i].end(0, paid)
				}
				w.supplyAll()
				day := windows("", gone.now())[0]
				key := windowKey(day)
				list := w.history[key]
				held := list[len(list)-1].granted(gone.budget.Leases(gone.now())[0].Unique) - 50*cent
				time.Sleep(5 * time.Minute) // they are back from their last faults, and midnight is near
				w.boxes = w.boxes[:2]
				lose(w, key)
				fresh := &modelBox{w: w, name: "fresh"}
				w.boxes = append(w.boxes, fresh)
				fresh.start(1, budget.Config{Limits: budget.Limits{Daily: new(usd.Dollar)}})
				fresh.reconnect(false)
				for _, b := range w.boxes {
					b.leaser.noteChange(key)
				}
				first := 2 // the new box; but it cannot know that a record is an old one
				if strings.HasPrefix(name, "sent again") {
					first = 0
				}
				for second := range 40 { // w.pay checks the limit
					for i := range w.boxes {
						b := w.boxes[(first+i+second)%3]
						s := b.session()
						if b == fresh && second < 2 { // it has not heard of the others yet
							s.present = func() []string { return []string{"fresh"} }
						}
						_ = b.leaser.supplyAll(t.Context(), s)
						for b.begin("", cent/2) {
							b.end(0, cent/2)
						}
					}
					time.Sleep(time.Second)
				}
				if spent := w.spent[day]; spent+held != usd.Dollar && spent+held < 99*cent {
					list := w.history[key]
					t.Errorf("%s is spent, and the box that is gone holds %s: %+v", spent, held, list[len(list)-1])
				}
				if s := w.boxes[0].leaser.windows[key]; s.incomplete {
					t.Errorf("it waits for other boxes: %+v", s.record)
				}
			})
		})
	}
}

// TestStartAfterLoss: a process that starts once the boxes have put a lost record together again has
// credit at once.
func TestStartAfterLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := budget.Config{Limits: budget.Limits{Daily: new(usd.Dollar)}}
		w := newWorld(t, 1, limits)
		w.faults = false
		w.supplyAll()
		time.Sleep(5 * time.Minute)
		key := windowKey(windows("", w.boxes[0].now())[0])
		delete(w.history, key)
		for _, b := range w.boxes {
			b.leaser.noteChange(key)
		}
		for range 40 {
			w.supplyAll()
			time.Sleep(time.Second)
		}
		fresh := &modelBox{w: w, name: "fresh"}
		fresh.start(1, limits)
		fresh.reconnect(false)
		if err := fresh.leaser.supplyAll(t.Context(), fresh.session()); err != nil {
			t.Fatal(err)
		}
		list := w.history[key]
		if last := list[len(list)-1]; last.Rebuilt == "" || !last.Whole {
			t.Errorf("%+v", last)
		}
		if !fresh.begin("", cent) {
			t.Error("the new process has no credit")
		}
	})
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

// TestOutsider: a user of the NATS account without the fleet's key overwrites the record of a budget, sends
// an old one again, and deletes it. The limit is not exceeded, and all of it can be spent.
func TestOutsider(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	nc, err := nats.Connect(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	seen, err := nc.SubscribeSync("$KV." + bucketName + ".>")
	if err != nil || nc.Flush() != nil {
		t.Fatal(err)
	}
	x := &till{limit: usd.Dollar}
	a, b := newBox(t, x, "a", server.URL), newBox(t, x, "b", server.URL)
	a.pay(1, cent)
	b.pay(1, cent)
	old, err := seen.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	deleted := nats.NewMsg(old.Subject)
	deleted.Header.Set("KV-Operation", "PURGE")
	deleted.Header.Set("Nats-Rollup", "sub")
	for i, attack := range []*nats.Msg{{Subject: old.Subject, Data: []byte("rubbish")}, {Subject: old.Subject, Data: old.Data}, deleted} {
		if err := nc.PublishMsg(attack); err != nil || nc.Flush() != nil {
			t.Fatal(err)
		}
		a.pay(1, cent)
		for late := time.Now().Add(patience); ; b.wait(late) {
			if s := b.process.leaser.Status([]string{"a", "b"}); s.Problem == "" && len(s.Limits) == 1 && !s.Limits[0].Rebuilt {
				break
			}
		}
		b.pay(20, cent)
		a.pay(5, cent)
		if x.check(t); t.Failed() {
			t.Fatalf("after attack %d", i)
		}
	}
	spendAll(t, x, a, b)
	x.check(t)
}

// TestLateNATS: NATS has lost its data, and starts long after the boxes. A box that comes first takes no
// credit before the others can have entered what they have spent: its limit is not new.
func TestLateNATS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := budget.Config{Limits: budget.Limits{Daily: new(usd.Dollar)}}
		w := newWorld(t, 1, limits)
		w.faults = false
		b := w.boxes[0]
		b.leaser.SetLimits(2, limits) // a reload
		time.Sleep(time.Minute)
		b.reconnect(false)
		s := b.session()
		s.present = func() []string { return []string{b.name} }
		if err := b.leaser.supplyAll(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if r := w.latest(b.now()); r.grantedToOthers("") != 0 || r.Rebuilt == "" {
			t.Errorf("it takes credit at once: %+v", r)
		}
		limits.PerKey = map[string]budget.Limits{"k": {Daily: new(usd.Dollar)}}
		time.Sleep(startTime + time.Second)
		w.setLimits(limits)
		b.leaser.SetLimits(3, limits)
		if err := b.leaser.supplyAll(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if !b.begin("k", cent) {
			t.Error("no credit of a new limit")
		}
	})
}

// TestReconnected: just after it has connected again, a box does not know yet that the others are there.
// Then what they hold can be had.
func TestReconnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, budget.Config{Limits: budget.Limits{Daily: new(usd.Dollar)}})
		w.faults = false
		w.supplyAll()
		b, estimate := w.boxes[0], 90*cent
		s := b.session()
		s.present = func() []string { return []string{b.name} }
		for name, after := range map[string]time.Duration{"at once": 0, "later": joinTime + 1} {
			b.reconnect(false)
			time.Sleep(after)
			if err := b.leaser.supplyAll(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			exceeded := b.budget.Check(b.now(), "", estimate)
			if exceeded == nil || exceeded.Temporary() != (after == 0) {
				t.Errorf("%s: %+v", name, exceeded)
			}
		}
	})
}
