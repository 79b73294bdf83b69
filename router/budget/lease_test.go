package budget

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

// leased returns a budget whose fleet has a limit of a dollar a day, and the lease.
func leased(t *testing.T, now time.Time) (*Budget, func() Lease) {
	t.Helper()
	b := New(Config{}, nil)
	b.CountLeases(now)
	b.SetFleet(Config{Limits: Limits{Daily: dollars("1")}})
	return b, func() Lease {
		t.Helper()
		list := b.Leases(now)
		if len(list) != 1 {
			t.Fatalf("%d leases: %+v", len(list), list)
		}
		return list[0]
	}
}

// A call needs credit of the fleet, and asks for it. What it needs is forgotten after a while.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, lease := leased(t, noon)
		if !b.Limited("k") {
			t.Error("no limit applies")
		}
		_, no := b.Reserve(noon, "k", *dollars("0.3"))
		if no == nil || !no.Fleet || !no.Temporary() || !strings.Contains(no.String(), "too little credit of the fleet's daily budget of all keys for this call, which may cost 0.30 USD") {
			t.Fatalf("without credit: %v", no)
		}
		b.SetAlone(true)
		if _, no := b.Reserve(noon, "k", *dollars("0.3")); no == nil || !strings.Contains(no.String(), "cannot ask the fleet for more now; llmsup status") {
			t.Errorf("without a connection: %v", no)
		}
		b.SetAlone(false)
		<-b.CreditWanted()
		if l := lease(); l.Asked != *dollars("0.3") || l.Limit != usd.Dollar || l.Granted != 0 {
			t.Errorf("%+v", l)
		}
		b.Grant(lease().LeaseID, Credit{Granted: *dollars("0.5"), Low: *dollars("0.1")})
		r := reserve(t, b, noon, "k", "0.3")
		select {
		case <-b.CreditWanted():
			t.Error("credit is wanted while there is enough")
		default:
		}
		reserve(t, b, noon, "", "0.15").Settle(*dollars("0.15"))
		<-b.CreditWanted() // less than Low is left
		r.Settle(*dollars("0.1"))
		if l := lease(); l.Spent != *dollars("0.25") || l.Reserved != 0 || l.Asked != 0 || l.Largest != *dollars("0.3") {
			t.Errorf("%+v", l)
		}
		if no := b.Check(noon, "", *dollars("0.6")); no == nil || !no.Temporary() {
			t.Errorf("more than the credit: %v", no)
		}
		time.Sleep(askFor + 1)
		if l := lease(); l.Asked != 0 {
			t.Errorf("it still asks for %s", l.Asked)
		}
	})
}

// What others have spent cannot be had: the call is rejected until the window ends, and asks for
// nothing.
func TestLeaseExhausted(t *testing.T) {
	b, lease := leased(t, noon)
	b.Grant(lease().LeaseID, Credit{Granted: *dollars("0.2"), Elsewhere: *dollars("0.75")})
	reserve(t, b, noon, "", "0.15").Settle(*dollars("0.15"))
	_, no := b.Reserve(noon, "", *dollars("0.2"))
	if no == nil || no.Temporary() || no.RetryAfter != 12*time.Hour || !strings.Contains(no.String(), "the daily budget of the fleet, 1.00 USD, does not allow this call") {
		t.Errorf("%v", no)
	}
	if l := lease(); l.Asked != 0 {
		t.Errorf("it asks for %s", l.Asked)
	}
	if _, no := b.Reserve(noon, "", *dollars("0.1")); no == nil || !no.Temporary() {
		t.Errorf("what the fleet has left: %v", no)
	}
}

// GiveBack never gives back what is spent or reserved, and Grant never lowers.
func TestGiveBack(t *testing.T) {
	b, lease := leased(t, noon)
	id := lease().LeaseID
	b.Grant(id, Credit{Granted: usd.Dollar})
	reserve(t, b, noon, "", "0.3").Settle(*dollars("0.3"))
	r := reserve(t, b, noon, "", "0.2")
	for _, tc := range []struct{ keep, want string }{{"2", "1"}, {"0.1", "0.6"}, {"0", "0.5"}, {"0.3", "0.5"}} {
		if got := b.GiveBack(id, *dollars(tc.keep)); got != *dollars(tc.want) {
			t.Errorf("keep %s: %s", tc.keep, got)
		}
	}
	b.Grant(id, Credit{Granted: *dollars("0.4")})
	if l := lease(); l.Granted != *dollars("0.5") {
		t.Errorf("%+v", l)
	}
	r.Settle(*dollars("0.7")) // more than was expected
	if l := lease(); l.Taken() != usd.Dollar || l.Granted != *dollars("0.5") {
		t.Errorf("%+v", l)
	}
	<-b.CreditWanted()
}

// Each window has a lease of its own, and a call belongs to that of the window in which it began.
func TestLeaseWindows(t *testing.T) {
	b, lease := leased(t, noon)
	tomorrow := noon.AddDate(0, 0, 1)
	b.Grant(lease().LeaseID, Credit{Granted: *dollars("0.5")})
	late := reserve(t, b, noon, "", "0.4")
	if _, no := b.Reserve(tomorrow, "", *dollars("0.1")); no == nil {
		t.Error("yesterday's credit is spent tomorrow")
	}
	late.Settle(*dollars("0.4"))
	both := b.Leases(noon, noon.Add(time.Minute), tomorrow)
	if len(both) != 2 || both[0].Spent != *dollars("0.4") || both[1].Spent != 0 || both[0].Unique == both[1].Unique || !both[1].From.Equal(both[0].To) {
		t.Errorf("%+v", both)
	}
}

// What was spent before there was a limit counts.
func TestLateLimit(t *testing.T) {
	b := New(Config{}, nil)
	b.CountLeases(noon)
	early := reserve(t, b, noon, "", "0.3")
	reserve(t, b, noon, "", "0.2").Settle(*dollars("0.2"))
	early.Settle(*dollars("0.3"))
	b.SetFleet(Config{Limits: Limits{Daily: dollars("1")}, PerKey: map[string]Limits{"k": {Monthly: dollars("2")}}})
	list := b.Leases(noon)
	if len(list) != 2 || list[0].Spent != *dollars("0.5") || list[1].Key != "k" || list[1].Limit != *dollars("2") {
		t.Errorf("%+v", list)
	}
}

// A lease that is forgotten and made again has nothing of its credit.
func TestForgottenLease(t *testing.T) {
	b, lease := leased(t, noon)
	old := lease()
	b.Grant(old.LeaseID, Credit{Granted: usd.Dollar})
	for day := range maxLeases {
		b.Leases(noon.AddDate(0, 0, day))
		b.Leases(noon.AddDate(0, 0, 1000-day))
	}
	again := lease()
	if again.Unique == old.Unique || again.Granted != 0 || !again.Since.After(old.Since) {
		t.Errorf("%+v", again)
	}
}

// In another fleet, leases have nothing of their credit, and count what is spent and reserved.
func TestRenewLeases(t *testing.T) {
	b, lease := leased(t, noon)
	old := lease()
	b.Grant(old.LeaseID, Credit{Granted: usd.Dollar, Low: 1, Elsewhere: 1})
	reserve(t, b, noon, "", "0.2").Settle(*dollars("0.2"))
	r := reserve(t, b, noon, "", "0.3")
	b.RenewLeases()
	if l := lease(); l.Unique == old.Unique || l.Credit != (Credit{}) || l.Spent != *dollars("0.2") || l.Reserved != *dollars("0.3") || !l.Since.Equal(old.Since) {
		t.Errorf("after the fleet has changed: %+v", l)
	}
	r.Settle(usd.Dollar)
	if l := lease(); l.Spent != *dollars("1.2") || l.Reserved != 0 {
		t.Errorf("%+v", l)
	}
}
