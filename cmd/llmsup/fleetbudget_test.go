package main

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
	"github.com/llmsup/llmsup/router/usd"
)

// billed returns what the upstream has billed.
func (u *recordingUpstream) billed() (sum usd.Amount) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, amount := range u.bills {
		sum += amount
	}
	return sum
}

// budgetBox is a box of TestFleetBudget, which has no server of its own.
type budgetBox struct {
	*instance
	start func() *instance
}

// pays makes a paid call, and reports whether it was answered. A rejection must be one over
// budget.
func (b *budgetBox) pays(id string) bool {
	body := fmt.Sprintf(`{"model":"vendor/cost","user":%q,"max_tokens":%d,"messages":[{"role":"user","content":"count"}]}`, id, reservedTokens)
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		b.t.Error(err)
		return false
	}
	req.Header.Set("Authorization", "Bearer client-secret")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false // it was killed
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && (resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "") {
		b.t.Errorf("%s: %s, Retry-After %q", id, resp.Status, resp.Header.Get("Retry-After"))
	}
	return resp.StatusCode == http.StatusOK
}

// TestFleetBudget: three boxes spend a budget of the fleet, one of them is killed and started
// again, and NATS is restarted. The upstream never bills more than the budget, and all of it can
// be spent but what a call may cost.
func TestFleetBudget(t *testing.T) {
	t.Parallel()
	const limit = usd.Dollar / 4
	nats, u := fleettest.Start(t), newRecordingUpstream(t)
	boxes := make([]*budgetBox, 3)
	for i := range boxes {
		file, state := filepath.Join(t.TempDir(), "llmsup.yaml"), shortDir(t)
		fleetConfig(t, file, fmt.Sprintf("gpu%d", i), nats.URL)
		own, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := string(own) + fmt.Sprintf(`
upstreams:
  openrouter: {base_url: "%s/paid/v1", api_key_env: TEST_OPENROUTER_KEY}
prices:
  openrouter:
    vendor/cost: {prompt: 0, completion: 1e-5}
`, u.URL)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		start := func() *instance {
			return launchIn(t, state, []string{"TEST_OPENROUTER_KEY=" + cloudKey}, "--config", file, "--log-level", "info")
		}
		boxes[i] = &budgetBox{start(), start}
	}
	inFleet := func(s control.Status) bool {
		return s.Fleet != nil && s.Fleet.Others == 2 && len(s.Budgets) == 1 && s.Budgets[0].Fleet != nil
	}
	for _, b := range boxes {
		b.awaitStatus("in the fleet", func(s control.Status) bool { return s.Fleet != nil && s.Fleet.Others == 2 })
	}
	shared := filepath.Join(t.TempDir(), "fleet.yaml")
	text := fmt.Sprintf("keys: {tool: {sha256: %x, operator: true}}\nbudget: {daily: %s}\nroutes: {\"vendor/*\": {primary: openrouter}}\n", sha256.Sum256([]byte("client-secret")), limit)
	if err := os.WriteFile(shared, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := boxes[0].run("fleet", "push", shared); code != 0 {
		t.Fatal(out)
	}
	for _, b := range boxes {
		b.awaitStatus("with a limit and credit", func(s control.Status) bool { return inFleet(s) && s.Budgets[0].Fleet.Granted > 0 })
	}
	spend := func(b *budgetBox, name string, until usd.Amount) func() {
		var calls sync.WaitGroup
		for n := range 4 {
			calls.Go(func() {
				for i := 0; u.billed() < until && i < 2000; i++ {
					if !b.pays(fmt.Sprintf("%s-%d-%d", name, n, i)) {
						time.Sleep(50 * time.Millisecond) // as a client
					}
				}
			})
		}
		return calls.Wait
	}
	all := []func(){spend(boxes[0], "a", limit/2), spend(boxes[1], "b", limit/2), spend(boxes[2], "c", limit/2)}
	if !eventually(testTimeout, func() bool { return u.billed() > limit/8 }) {
		t.Fatalf("%s is billed", u.billed())
	}
	if err := boxes[1].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-boxes[1].done
	for _, wait := range all {
		wait()
	}
	boxes[0].awaitStatus("with a box that is gone", func(s control.Status) bool {
		return len(s.Budgets) == 1 && len(s.Budgets[0].Fleet.Gone) == 1 && s.Budgets[0].Fleet.Gone[0].Box == "gpu1"
	})
	if _, out := boxes[0].run("status"); !strings.Contains(out, "daily budget of the fleet: ") || !strings.Contains(out, "gpu1, which is not in the fleet, holds ") {
		t.Error(out)
	}
	boxes[1].instance = boxes[1].start()
	nats.Stop()
	nats.Restart(t)
	for _, b := range boxes {
		b.awaitStatus("in the fleet again", func(s control.Status) bool {
			return inFleet(s) && s.Budgets[0].Fleet.Problem == "" && len(s.Budgets[0].Fleet.Gone) == 0
		})
	}
	for i, b := range boxes { // in turn: the last picodollars go to the box that asks
		rest := limit - usd.Dollar/100*usd.Amount(3-i)
		spend(b, fmt.Sprintf("rest-%d", i), rest)()
		if u.billed() < rest {
			t.Errorf("gpu%d: %s of %s is billed", i, u.billed(), limit)
		}
	}
	spend(boxes[0], "last", limit-reservedOfCall*5)()
	if billed := u.billed(); billed > limit || billed < limit-reservedOfCall*10 || len(u.twice) > 0 {
		t.Errorf("%s of %s is billed; twice: %v", billed, limit, u.twice)
	}
	page := boxes[0].request("GET", "/metrics", "", "Authorization", "Bearer client-secret").body
	for _, metric := range []string{`limit_usd{key="",period="daily"} 0.25`, `spent_usd{`, `left_usd{`, `granted_usd{`, `gone_usd{key="",period="daily"} 0`, `renewable{key="",period="daily"} 1`} {
		if !strings.Contains(page, "\nllmsup_fleet_budget_"+metric) {
			t.Errorf("no llmsup_fleet_budget_%s in %s", metric, page)
		}
	}
}
