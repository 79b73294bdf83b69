package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu/nvmltest"
)

const scripts = "../../scripts/"

// promtool runs Prometheus' promtool, which must report no problem.
func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	name := os.Getenv("LLMSUP_TEST_PROMTOOL")
	if name == "" {
		name = "promtool"
	}
	program, err := exec.LookPath(name)
	if err != nil {
		t.Fatal("no promtool in LLMSUP_TEST_PROMTOOL nor on PATH: run scripts/test.sh, which gets one")
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "FAILED") {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// series are the labels of each metric on some pages, by name.
type series map[string]map[string]bool

var (
	sample     = regexp.MustCompile(`(?m)^([a-z][a-z0-9_]*)(?:\{(.*)\})? \S+$`)
	labels     = regexp.MustCompile(`([a-z_]+)="(?:[^"\\]|\\.)*"`)
	metricName = regexp.MustCompile(`\b(?:llmsup|go|process)_[a-z0-9_]+\b`)
	filters    = regexp.MustCompile(`\b((?:llmsup|go|process)_[a-z0-9_]+)\{([^}]*)\}`)
	wanted     = regexp.MustCompile(`([a-z_]+) *(?:=~|!~|!=|=)`)
	groups     = regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`)
)

func (s series) read(page string) {
	for _, m := range sample.FindAllStringSubmatch(page, -1) {
		if s[m[1]] == nil {
			s[m[1]] = map[string]bool{"instance": true, "job": true} // which Prometheus adds
		}
		for _, label := range labels.FindAllStringSubmatch(m[2], -1) {
			s[m[1]][label[1]] = true
		}
	}
}

// check reports the metrics and labels of an expression that are in no page.
func (s series) check(t *testing.T, where, expr string) {
	t.Helper()
	all := map[string]bool{}
	for _, name := range metricName.FindAllString(expr, -1) {
		if s[name] == nil {
			t.Errorf("%s: there is no metric %s: %s", where, name, expr)
		}
		maps.Copy(all, s[name])
	}
	for _, m := range filters.FindAllStringSubmatch(expr, -1) {
		for _, label := range wanted.FindAllStringSubmatch(m[2], -1) {
			if !s[m[1]][label[1]] {
				t.Errorf("%s: %s has no label %s: %s", where, m[1], label[1], expr)
			}
		}
	}
	for _, m := range groups.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(m[1], ",") {
			if !all[strings.TrimSpace(label)] {
				t.Errorf("%s: nothing has a label %s: %s", where, label, expr)
			}
		}
	}
}

// servingPage returns /metrics of a llmsup with GPUs that has answered calls in every
// possible way.
func servingPage(t *testing.T) string {
	t.Helper()
	breaks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, `data: {"id":"x","choices":[{"index":0,"delta":{"content":"some text"}}]}`+"\n\n")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(breaks.Close)
	b, c := newGPUMachine(t, nvmltest.Modern), newFakeCloud(t)
	in := b.launch(c, fmt.Sprintf("  breaks: {primary: %q, fallback: openrouter, fallback_model: vendor/box, resume: true}\nbudget: {daily: 5}\n"+
		"fleet: {nats: \"nats://127.0.0.1:1\", name: gpu1, advertise: \"http://gpu1:8000\", key_file: /none}\n", breaks.URL)+fastVerdicts, "--model", "https://127.0.0.1:1/waits.gguf") // which is never downloaded
	pid := in.awaitReady().PID
	b.change(func(box *nvmltest.Box) { box.GPUs[0].Processes = []nvmltest.Process{{PID: pid, Used: gib}} })
	in.await("seen to hold VRAM", func(s control.Server) bool { return s.VRAM != nil && s.VRAM.HeldBytes != nil })
	for model, want := range map[string]int{"local/box": 200, "vendor/made-up-name": 200, "local/made-up-name": 404} {
		if r := in.chat(model, `,"max_tokens":3`); r.status != want {
			t.Errorf("%s: %+v", model, r)
		}
	}
	if r := in.chat("breaks", `,"stream":true`); !strings.Contains(r.body, "from the cloud") {
		t.Errorf("%+v", r)
	}
	if r := in.request("GET", "/v1/models", "", "Origin", "https://made-up-name.example"); r.status != 403 {
		t.Errorf("a page: %+v", r)
	}
	return in.get("/metrics")
}

// TestMetrics compares the metrics of a running llmsup with everything that names them:
// the dashboard, the alerts and the README of scripts.
func TestMetrics(t *testing.T) {
	t.Parallel()
	known := series{}
	page := servingPage(t)
	promtool(t, page, "check", "metrics")
	known.read(page)
	for _, line := range []string{
		`llmsup_calls_total{backend="box",reason="",route="local/box",status="200"} 1`,
		`llmsup_calls_total{backend="openrouter",reason="",route="*/*",status="200"} 1`,
		`llmsup_calls_total{backend="",reason="",route="",status="404"} 1`,
		`llmsup_tokens_total{backend="box",kind="completion",route="local/box"} 3`,
		`llmsup_resumed_streams_total{backend="openrouter",end="`, `llmsup_refused_calls_total{code="model_not_found"} 1`,
		`llmsup_server_state{server="box",state="ready"} 1`, `llmsup_server_state{server="box",state="loading"} 0`,
		`llmsup_server_restarts_total{class="out_of_vram",server="box"} 0`, `llmsup_server_slots{server="box"} 4`,
		`llmsup_server_vram_held_bytes{server="box"} 1.073741824e+09`,
		`llmsup_gpu_health{gpu="1",health="ok",uuid="GPU-5b1e1f6e-0000-4000-8000-000000000002"} 1`,
		`llmsup_gpu_memory_part_bytes{gpu="0",kind="server",server="box",uuid="GPU-5b1e1f6e-0000-4000-8000-000000000001"} 1.073741824e+09`,
		`llmsup_model_load_seconds_count{server="box"} 1`, `llmsup_model_vram_measured_bytes{server="box"} 1.073741824e+09`,
		`llmsup_model_calls_waiting{server="box"} 0`, `llmsup_model_too_large{server="box"} 0`, `llmsup_model_wait_seconds_count{server="box"} 0`,
		`llmsup_model_download_idle_seconds{server="waits"} `,
		`llmsup_upstream_breaker_state{state="closed",upstream="openrouter"} 1`,
		`llmsup_budget_limit_usd{key="",period="daily"} 5`, `llmsup_ledger_condition{condition="spilling"} 0`,
		`llmsup_build_info{goversion="go`, `llmsup_fleet_joined{box="gpu1"} 0`,
	} {
		if !strings.Contains(page, "\n"+line) {
			t.Errorf("%s is missing in\n%s", line, page)
		}
	}
	if strings.Contains(page, "made-up-name") || strings.Contains(page, "secret") {
		t.Errorf("the page has text that a client sent:\n%s", page)
	}
	exprs := dashboardExprs(t)
	for where, expr := range exprs {
		known.check(t, where, expr)
	}
	known.read("llmsup_fleet_budget_renewable{key=\"\",period=\"daily\"} 1\n") // TestFleetBudget has it
	for _, name := range []string{"issued", "expiry"} {                        // TestHTTPS has them
		known.read("llmsup_tls_certificate_" + name + "_timestamp_seconds 1\n")
	}
	for where, expr := range alertExprs(t) {
		known.check(t, where, expr)
	}
	promtool(t, "", "check", "rules", "--lint=all", "--lint-fatal", scripts+"alerts.yml")
	promtool(t, "", "check", "rules", asRules(t, exprs))
	promtool(t, "", "test", "rules", "testdata/alerts.yml")

	readme, err := os.ReadFile(scripts + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, name := range metricName.FindAllString(string(readme), -1) {
		documented[name] = true
	}
	families := map[string]bool{}
	for name := range known {
		for _, suffix := range []string{"_bucket", "_sum", "_count"} { // of a histogram
			name = strings.TrimSuffix(name, suffix)
		}
		families[name] = true
	}
	for name := range families {
		if strings.HasPrefix(name, "llmsup_") && !documented[name] {
			t.Errorf("scripts/README.md does not document %s", name)
		}
	}
	for name := range documented {
		if !families[name] && !strings.HasPrefix(name, "llmsup_fleet_budget_") { // TestFleetBudget has these
			t.Errorf("scripts/README.md documents %s, and there is none", name)
		}
	}
}

// dashboardExprs returns the dashboard's queries, by the panels that have them.
func dashboardExprs(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(scripts + "grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ RefID, Expr string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal(raw, &board); err != nil {
		t.Fatal(err)
	}
	exprs := map[string]string{}
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			exprs["panel "+panel.Title+" "+target.RefID] = target.Expr
		}
	}
	for _, variable := range board.Templating.List {
		if inner := regexp.MustCompile(`^label_values\((.*), *[a-z]+\)$`).FindStringSubmatch(variable.Definition); inner != nil {
			exprs["variable "+variable.Name] = inner[1]
		}
	}
	if len(exprs) < 50 {
		t.Errorf("the dashboard has only %d queries", len(exprs))
	}
	return exprs
}

func alertExprs(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(scripts + "alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Labels      struct{ Severity string }
				Annotations struct{ Summary, Description string }
			}
		}
	}
	if err := yaml.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	exprs := map[string]string{}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			exprs["alert "+rule.Alert] = rule.Expr
			if rule.Annotations.Summary == "" || rule.Annotations.Description == "" || !slices.Contains([]string{"critical", "warning", "info"}, rule.Labels.Severity) {
				t.Errorf("alert %s lacks a severity, a summary or a description", rule.Alert)
			}
		}
	}
	if len(exprs) < 10 {
		t.Errorf("there are only %d alerts", len(exprs))
	}
	return exprs
}

// asRules makes a file of rules of queries, so that promtool reads them.
func asRules(t *testing.T, exprs map[string]string) string {
	t.Helper()
	type rule struct{ Record, Expr string }
	var rules []rule
	filled := strings.NewReplacer("$__rate_interval", "5m", "$__range", "6h", "$instance", ".*", "$route", ".*")
	for i, where := range slices.Sorted(maps.Keys(exprs)) {
		rules = append(rules, rule{fmt.Sprintf("query_%d", i), filled.Replace(exprs[where])})
	}
	raw, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
