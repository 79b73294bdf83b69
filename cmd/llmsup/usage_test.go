package main

import (
	"bufio"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/usd"
)

// TestUsageIsExact: llmsup usage shows to the picodollar what the upstream billed, and
// what the local answers would have cost there. After a restart the budgets include what
// was spent before.
func TestUsageIsExact(t *testing.T) {
	t.Parallel()
	c := newBillingUpstream(t)
	file := newTestConfig(t, c.config(`budget: {daily: 5, per_key: {tool: {monthly: 1}}}
routes:
  local/demo: {primary: demo, fallback: openrouter, fallback_model: qwen/qwen-2.5-14b-instruct}
`))
	dir := shortDir(t)
	in := launchIn(t, dir, c.env(), "--demo", "--config", file.path)
	in.awaitReady()
	in.awaitLog("fetched the upstream's prices")

	var prompt, completion int64
	for _, stream := range []string{"", "", `,"stream":true`} {
		r := in.chat("local", `,"max_tokens":3`+stream)
		if r.status != 200 || r.backend() != "demo" {
			t.Fatalf("%+v", r)
		}
		if stream == "" {
			prompt, completion = gjson.Get(r.body, "usage.prompt_tokens").Int(), gjson.Get(r.body, "usage.completion_tokens").Int()
		}
	}
	saved := 3 * usd.Amount(prompt*billedPromptPrice+completion*billedCompletionPrice)
	for _, stream := range []string{"", `,"stream":true`} {
		if r := in.chat("gpt-4o", stream); r.status != 200 || r.readErr != nil {
			t.Fatalf("%+v", r)
		}
	}
	if code, out := runCommand(t, "drain", "--yes", "--control-socket", dir+"/c.sock"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	premium, _ := c.total()
	if r := in.chat("local", ""); r.status != 200 || r.reason() != "drained" {
		t.Fatalf("%+v", r)
	}
	if r := in.chat("nonsense", ""); r.status != 404 {
		t.Fatalf("%+v", r)
	}

	check := func(in *instance) {
		t.Helper()
		taken, paid := c.total()
		u := in.usage()
		total := u.Total
		if total.Calls != 7 || total.Failed != 1 || total.Local != 3 || total.Paid != int64(paid) || total.UnknownTokens+total.UnknownCost+total.UnknownSaved != 0 {
			t.Errorf("total %+v", total)
		}
		if *total.Cost != control.USD(taken) || *total.Saved != control.USD(saved) || saved == 0 || *total.Prompt != 3*prompt+33 || *total.Completion != 9+6 {
			t.Errorf("total %s, want %s paid, %s saved and %d tokens in", show(total), taken, saved, 3*prompt+33)
		}
		if g := u.Reasons; len(g) != 1 || g[0].Name != "drained" || g[0].Calls != 1 || *g[0].Cost != control.USD(taken-premium) {
			t.Errorf("reasons %+v", g)
		}
		if len(u.Groups) != 3 || u.Groups[1].Name != "gpt-4o" || *u.Groups[1].Cost != control.USD(premium) || u.Groups[2].Name != "local" || u.Groups[2].Calls != 4 {
			t.Errorf("groups %+v", u.Groups)
		}
		for by, want := range map[string]string{
			"backend": " demo openrouter", "key": "tool", "reason": " drained", "route": " gpt-4o local", "day": time.Now().UTC().Format(time.DateOnly),
		} {
			of, names := in.usage("--by", by, "--since", "1d"), []string{}
			for _, g := range of.Groups {
				names = append(names, g.Name)
			}
			if got := strings.Join(names, " "); got != want && by != "day" || show(of.Total) != show(total) || of.Days != nil { // midnight may have come
				t.Errorf("by %s there are %q with total %s", by, got, show(of.Total))
			}
		}
		in.awaitStatus("aware of what is spent", func(s control.Status) bool {
			return len(s.Budgets) == 2 && s.Budgets[0].Spent == control.USD(taken) && s.Budgets[1].Spent == control.USD(taken) && s.Budgets[1].Key == "tool"
		})
	}
	check(in)
	if later := in.usage("--since", "2019-01-01", "--until", "2020-01-01"); later.Total.Calls != 0 || len(later.Days) != 0 {
		t.Errorf("long ago there was %+v", later)
	}

	taken, paid := c.total()
	socket := []string{"--control-socket", dir + "/c.sock"}
	code, page := runCommand(t, append([]string{"usage"}, socket...)...)
	for _, want := range []string{
		"calls   7, 1 failed\n", "local   42 % were answered", fmt.Sprintf("paid    %s USD for %d calls\n", dollars(control.USD(taken)), paid),
		"WHY CALLS LEFT LOCAL  CALLS  PAID USD\ndrained ", "\n20",
	} {
		if code != 0 || !strings.Contains(page, want) || strings.Contains(page, "\x1b") {
			t.Errorf("exit %d, without %q:\n%s", code, want, page)
		}
	}
	if code, csv := runCommand(t, append([]string{"usage", "--csv", "--by", "key"}, socket...)...); code != 0 || !strings.Contains(csv, fmt.Sprintf("\ntool,7,1,3,3,0,0,%d,", 3*prompt+33)) || !strings.Contains(csv, ","+taken.String()+",0,"+saved.String()+",0\n") {
		t.Errorf("exit %d:\n%s", code, csv)
	}
	if code, status := runCommand(t, append([]string{"status"}, socket...)...); code != 0 || !strings.Contains(status, "\ndaily budget: "+dollars(control.USD(taken))+" of 5.00 USD spent, until 20") ||
		!strings.Contains(status, "\nmonthly budget of key tool: ") || strings.Contains(status, "ledger") {
		t.Errorf("exit %d:\n%s", code, status)
	}

	in.stop()
	again := launchIn(t, dir, c.env(), "--demo", "--config", file.path)
	check(again)
	if lists := c.priceRequests(); lists != 1 {
		t.Errorf("the prices were requested %d times; the saved ones are valid for a day", lists)
	}
}

func show(s control.Sums) string {
	return fmt.Sprintf("%d calls, paid %s, saved %s, in %d, out %d", s.Calls, exactUSD(s.Cost), exactUSD(s.Saved), *s.Prompt, *s.Completion)
}

// TestUsageWatch: without a terminal each refresh is one line.
func TestUsageWatch(t *testing.T) {
	t.Parallel()
	c := newBillingUpstream(t)
	in := launch(t, c.env(), "--config", newTestConfig(t, c.config("")).path)
	if r := in.chat("gpt-4o", ""); r.status != 200 {
		t.Fatalf("%+v", r)
	}
	cmd := exec.Command("llmsup", "usage", "--watch", "--control-socket", in.state+"/c.sock")
	var failure strings.Builder
	cmd.Stderr = &failure
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^20\S+Z 1 call since 20\S+Z, 0 % local, paid 0.000123 USD, saved 0 USD$`)
	lines := bufio.NewScanner(pipe)
	for range 2 {
		if !lines.Scan() || !want.MatchString(lines.Text()) {
			t.Errorf("%q, %v", lines.Text(), lines.Err())
		}
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	if err := cmd.Wait(); err != nil {
		t.Errorf("Ctrl-C: %v %s", err, &failure)
	}
}

// TestReloadBudgets: changed budgets, prices and ledger.keep apply to the next call.
func TestReloadBudgets(t *testing.T) {
	t.Parallel()
	c := newBillingUpstream(t)
	file := newTestConfig(t, c.config("budget: {daily: 5}\n"))
	in := launch(t, c.env(), "--config", file.path)
	if r := in.chat("gpt-4o", ""); r.status != 200 {
		t.Fatalf("%+v", r)
	}
	file.write(c.config("budget: {daily: 0.0001, per_key: {tool: {daily: 0}}}\nledger: {keep: 2w}\nprices:\n  openrouter:\n    openai/gpt-4o: {prompt: 1e-6, completion: 2e-6}\n"))
	code, out := in.reload()
	for _, want := range []string{"ledger.keep: 14d\n", "budget.daily: 0.0001 USD\n", "budget of key tool: added\n", "prices of upstream openrouter: added\n"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit %d, without %q:\n%s", code, want, out)
		}
	}
	r := in.chat("gpt-4o", "")
	if r.status != 429 || gjson.Get(r.body, "error.code").Str != "budget_exceeded" || gjson.Get(r.body, "error.type").Str != "insufficient_quota" || r.header.Get("Retry-After") == "" {
		t.Errorf("over budget: %+v", r)
	}
	if _, status := in.run("status"); !strings.Contains(status, "\ndaily budget: 0.000123 of 0.000100 USD spent") {
		t.Errorf("status:\n%s", status)
	}
	file.write(c.config("budget: {daily: -1}\n"))
	if code, out := in.reload(); code != 1 || !strings.Contains(out, "want an amount in USD") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	file.write(c.config(""))
	if code, out := in.reload(); code != 0 || !strings.Contains(out, "budget.daily: limit removed\n") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if r := in.chat("gpt-4o", ""); r.status != 200 {
		t.Errorf("without a budget: %+v", r)
	}
}

// TestBudgetWarning: one warning is logged when 80 % are spent.
func TestBudgetWarning(t *testing.T) {
	c := newBillingUpstream(t)
	// With prices of 0 nothing is reserved beyond what the calls cost.
	in := launch(t, c.env(), "--config", newTestConfig(t, c.config("budget: {daily: 0.001}\nprices: {openrouter: {openai/gpt-4o: {prompt: 0, completion: 0}}}\n")).path)
	for range 4 { // 0.00012, 0.00037, 0.00074, 0.00123
		if r := in.chat("gpt-4o", ""); r.status != 200 {
			t.Fatalf("%+v", r)
		}
	}
	if r := in.chat("gpt-4o", ""); r.status != 429 {
		t.Errorf("%+v", r)
	}
	in.awaitLog(`"code":"budget_exceeded"`) // a warning stands before it
	if n := strings.Count(in.logged(), "of the daily budget is spent"); n != 1 {
		t.Errorf("warned %d times", n)
	}
}
