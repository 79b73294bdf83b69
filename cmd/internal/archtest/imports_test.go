package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// topImports is what each top-level folder may import of the others. Only cmd joins
// them.
var topImports = map[string][]string{
	"cmd":        {"supervisor", "router", "gpu", "models", "systemd"},
	"supervisor": {"models"},
	"router":     {"models"},
	"gpu":        {"models"},
	"models":     nil,
	"systemd":    nil,
}

// engineOfTests is the engine that tests of all packages run: its capabilities are what
// they expect.
const engineOfTests = "supervisor/llamacpp"

// topLevelImports checks the imports between top-level folders, in tests as well: a
// test that needs two of them belongs in cmd. It follows that only cmd imports
// cmd/internal.
func topLevelImports(tree []source) []string {
	var violations []string
	for _, s := range tree {
		allowed, known := topImports[topOf(s.path)]
		if !known {
			violations = append(violations, fmt.Sprintf("%s: Go code lives in cmd, supervisor, router, gpu, models or systemd", s.path))
			continue
		}
		for _, imported := range s.imports {
			inside, ours := strings.CutPrefix(imported, module+"/")
			if s.test() && inside == engineOfTests {
				continue
			}
			if to := topOf(inside); ours && to != topOf(s.path) && !slices.Contains(allowed, to) {
				violations = append(violations, fmt.Sprintf("%s imports %s: only cmd joins the packages; put an interface into %s, and join them in cmd/internal/daemon", s.path, inside, topOf(s.path)))
			}
		}
	}
	return violations
}

// cmdImports is what some packages of cmd/internal may import of this module. Their
// tests may import no more.
var cmdImports = map[string][]string{
	"cmd/internal/downloads":    {"cmd/internal/control", "models/gguf", "models/hub", "models/hub/hubtest", "supervisor"},
	"cmd/internal/fit":          {"cmd/internal/control", "cmd/internal/placement", "gpu", "models", "models/gguf", "models/hub", "models/hub/hubtest", "models/vram"},
	"cmd/internal/certificate":  {"cmd/internal/certificate/certtest", "cmd/internal/config/keyfile"},
	"cmd/internal/fleet":        {"cmd/internal/config/keyfile", "cmd/internal/fleet/fleettest"},
	"cmd/internal/fleet/lease":  {"cmd/internal/fleet", "cmd/internal/fleet/fleettest", "router/budget", "router/usd"},
	"cmd/internal/fleet/report": {"cmd/internal/control", "cmd/internal/fleet", "cmd/internal/fleet/fleettest", "router/usd"},
	"cmd/internal/gpureport":    {"cmd/internal/control", "cmd/internal/placement", "gpu"},
	"cmd/internal/graceful":     nil,
	"cmd/internal/idlememory":   nil,
	"cmd/internal/maintenance":  {"cmd/internal/control", "supervisor"},
	"cmd/internal/modelfiles":   {"cmd/internal/control", "cmd/internal/fit", "cmd/internal/placement", "models/demo", "models/gguf", "models/hub", "models/vram"},
	"cmd/internal/scheduler":    nil,
	"cmd/internal/ondemand":     {"cmd/internal/placement", "cmd/internal/scheduler", "gpu", "supervisor"},
	"cmd/internal/page":         {"cmd/internal/control", "cmd/internal/page/feed", "router/access", "router/usd", "router/wire"},
	"cmd/internal/page/feed":    {"cmd/internal/control", "cmd/internal/fleet"},
	"cmd/internal/placement":    {"cmd/internal/config", "cmd/internal/config/units", "gpu", "models/gguf", "models/vram", "supervisor"},
}

// cmdInternalImports checks the imports of these packages: what they decide must not
// depend on the daemon, or on each other.
func cmdInternalImports(tree []source) []string {
	var violations []string
	for _, s := range tree {
		allowed, known := cmdImports[s.dir()]
		if !known {
			continue
		}
		for _, imported := range s.imports {
			inside, ours := strings.CutPrefix(imported, module+"/")
			if ours && inside != s.dir() && !slices.Contains(allowed, inside) {
				violations = append(violations, fmt.Sprintf("%s imports %s: put an interface into %s, and join them in cmd/internal/daemon", s.path, inside, s.dir()))
			}
		}
	}
	return violations
}

// layers are all packages, from the bottom up. A package imports only from the layers
// below its own.
var layers = [][]string{
	{"router/usd", "models", "models/gguf", "models/demo", "gpu", "systemd", "supervisor/process", "supervisor/output", "supervisor/promptcache", "router/spool", "cmd/internal/graceful", "cmd/internal/idlememory", "cmd/internal/scheduler"},
	{"models/vram", "models/hub", "router/price", "router/budget", "router/ledger/journal", "supervisor", "cmd/internal/config/keyfile", "cmd/internal/config/units", "cmd/internal/config/paths"},
	{"router/ledger", "cmd/internal/certificate"},
	{"router/wire", "supervisor/llamacpp", "supervisor/generic"},
	{"router/access", "router/request", "router/responses", "router/resume", "router/endpoint"},
	{"router/aggregate", "router/accounting", "router/waiting", "router/inflight", "router/pick"},
	{"router/backend"},
	{"router/outcome", "router/boxes"},
	{"router/attempt"},
	{"router/plan"},
	{"router/modellist", "router/collect"},
	{"router/record"},
	{"router"},
	{"cmd/internal/fleet"},
	{"cmd/internal/fleet/lease", "cmd/internal/config", "cmd/internal/control"},
	{"cmd/internal/config/fileedit", "cmd/internal/fleet/fleetconfig", "cmd/internal/downloads", "cmd/internal/accounting", "cmd/internal/placement", "cmd/internal/maintenance"},
	{"cmd/internal/fit"},
	{"cmd/internal/modelfiles", "cmd/internal/ondemand", "cmd/internal/calls", "cmd/internal/page/feed", "cmd/internal/gpureport", "cmd/internal/fleet/report"},
	{"cmd/internal/page", "cmd/internal/fleet/ownbox", "cmd/internal/loading", "cmd/internal/notifier", "cmd/internal/readiness"},
	{"cmd/internal/serverreport"},
	{"cmd/internal/daemon"},
	{"cmd/llmsup"},
}

// testPackages are used by tests only, or are tests or tools themselves, and have no
// layer.
var testPackages = []string{
	"gpu/nvmltest", "models/demo/demotest", "models/hub/hubtest", "router/ledger/ledgertest", "router/accounting/accountingtest",
	"cmd/internal/archtest", "cmd/internal/bench", "cmd/internal/enginetest", "cmd/internal/testreport", "cmd/internal/page/browser",
	"cmd/internal/certificate/certtest", "cmd/internal/fleet/fleettest", "cmd/internal/fleet/threeboxes",
}

// downwardImports checks that no import points upward or sideways.
func downwardImports(tree []source) []string {
	layerOf := map[string]int{}
	for i, layer := range layers {
		for _, dir := range layer {
			layerOf[dir] = i
		}
	}
	var violations []string
	for _, s := range tree {
		if s.test() || slices.Contains(testPackages, s.dir()) {
			continue
		}
		own, known := layerOf[s.dir()]
		if !known {
			violations = append(violations, fmt.Sprintf("%s: add %s to layers in cmd/internal/archtest", s.path, s.dir()))
			continue
		}
		for _, imported := range s.imports {
			inside, ours := strings.CutPrefix(imported, module+"/")
			if layer, known := layerOf[inside]; ours && known && layer >= own {
				violations = append(violations, fmt.Sprintf("%s imports %s, which is not in a layer below: move what both need down, or put an interface into %s", s.path, inside, s.dir()))
			}
		}
	}
	return violations
}

// exclusive is a library that only one place may use.
type exclusive struct {
	library  string   // an import path, and all below it
	homes    []string // files, or folders and all below them
	testsToo bool     // the limit holds for tests as well
	instead  string
}

// retryFiles use go-retryablehttp.
var retryFiles = []string{"router/backend/retry.go", "models/hub/request.go"}

var exclusives = []exclusive{
	{library: "os/exec", homes: []string{"supervisor", "gpu/nvmltest", "cmd/internal/enginetest", "cmd/internal/page/browser", "cmd/internal/fleet/fleettest"}, instead: "only supervisor starts processes, so that none is ever orphaned"},
	{library: module + "/gpu/nvmltest", homes: []string{"gpu/nvmltest"}, instead: "it runs a compiler, and is for tests alone"},
	{library: module + "/models/hub/hubtest", homes: []string{"models/hub/hubtest"}, instead: "it is for tests alone"},
	{library: module + "/models/demo/demotest", homes: []string{"models/demo/demotest"}, instead: "it is for tests alone"},
	{library: module + "/cmd/internal/enginetest", homes: []string{"cmd/internal/enginetest"}, instead: "it is for tests alone"},
	{library: module + "/router/ledger/ledgertest", homes: []string{"router/ledger/ledgertest"}, instead: "it is for tests alone"},
	{library: module + "/router/accounting/accountingtest", homes: []string{"router/accounting/accountingtest"}, instead: "it is for tests alone"},
	{library: "github.com/NVIDIA/go-nvml", homes: []string{"gpu"}, testsToo: true, instead: "use package gpu, which also works without a GPU"},
	{library: module + "/cmd/internal/fleet/fleettest", homes: []string{"cmd/internal/fleet/fleettest"}, instead: "it runs NATS servers, and is for tests alone"},
	{library: "github.com/nats-io/nats.go", homes: []string{"cmd/internal/fleet"}, instead: "use package fleet, for which no call waits"},
	{library: "github.com/nats-io/nats-server", homes: []string{"cmd/internal/fleet/fleettest"}, instead: "it is for tests alone"},
	{library: "github.com/hashicorp/go-retryablehttp", homes: retryFiles, instead: "only these files repeat a request, so that none is paid for twice: " + strings.Join(retryFiles, ", ")},
	{library: module + "/cmd/internal/page/browser", homes: []string{"cmd/internal/page/browser"}, instead: "it runs a browser, and is for tests alone"},
	{library: "github.com/chromedp", homes: []string{"cmd/internal/page/browser"}, testsToo: true, instead: "use package browser, which also checks what the page must not do"},
	{library: "database/sql", homes: []string{"router/ledger"}, testsToo: true, instead: "use package router/ledger"},
	{library: "modernc.org/sqlite", homes: []string{"router/ledger"}, testsToo: true, instead: "use package router/ledger"},
}

func exclusiveImports(tree []source) []string {
	var violations []string
	for _, s := range tree {
		for _, e := range exclusives {
			if s.test() && !e.testsToo || slices.ContainsFunc(e.homes, func(home string) bool { return within(s.path, home) }) {
				continue
			}
			if slices.ContainsFunc(s.imports, func(imported string) bool { return within(imported, e.library) }) {
				violations = append(violations, fmt.Sprintf("%s imports %s: %s", s.path, e.library, e.instead))
			}
		}
	}
	return violations
}

// within reports whether a path is a folder, or is below it.
func within(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }
