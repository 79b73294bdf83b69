package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/usd"
)

// figures returns the sums of some calls.
func figures(calls, local int64, cost, saved *control.USD) control.Sums {
	prompt, cached, completion := 1000*calls, 10*calls, 100*calls
	return control.Sums{
		Calls: calls, Local: local, Paid: calls - local, Prompt: &prompt, Cached: &cached, Completion: &completion, Cost: cost, Saved: saved,
	}
}

func amount(dollars float64) *control.USD { return new(control.USD(dollars * float64(usd.Dollar))) }

func group(name string, s control.Sums) control.UsageGroup {
	return control.UsageGroup{Name: name, Sums: s}
}

// weekOfUsage has everything that the page can show.
func weekOfUsage() control.Usage {
	u := control.Usage{
		From: time.Date(2026, 11, 20, 22, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 27, 22, 0, 0, 0, time.UTC), Total: figures(1234, 999, amount(1.234), amount(4.5)),
		Groups: []control.UsageGroup{
			group("", figures(1, 0, amount(0), amount(0))),
			group("gpt-4o", figures(200, 0, amount(1.2), amount(0))),
			group("local/qwen2.5-14b", figures(1022, 999, amount(0.034), amount(4.5))),
			group("vendor/"+strings.Repeat("long", 10), figures(11, 0, nil, amount(0))),
		},
		Reasons: []control.UsageGroup{group("restarting", figures(20, 0, amount(0.0339999), nil)), group("saturated", figures(3, 0, nil, nil))},
		Days:    []control.UsageGroup{group("2026-11-20", figures(100, 100, nil, nil)), group("2026-11-23", figures(1130, 898, nil, nil)), group("2026-11-27", figures(4, 1, nil, nil))},
	}
	u.Total.Failed, u.Total.Partial, u.Total.UnknownTokens, u.Total.UnknownCost, u.Total.UnknownSaved = 12, 3, 2, 11, 17
	u.Groups[2].UnknownSaved, u.Groups[3].UnknownCost, u.Reasons[1].UnknownCost = 17, 11, 3
	return u
}

const weekPage = `Usage from 2026-11-20 22:00 to 2026-11-27 22:00 UTC

calls   1234, 12 failed, 3 were cut off or cancelled
local   80 % were answered by local servers (999)
tokens  1.2M in, 12.3k of them cached; 123.4k out; unknown for 2 calls
paid    1.23 USD for 224 calls; unknown for 11 calls
saved   4.50 USD, what the fallback would have cost; unknown for 17 calls

MODEL              CALLS  LOCAL      IN     OUT  PAID USD  SAVED USD
local/qwen2.5-14b   1022   97 %    1.0M  102.2k    0.0340      4.50+
gpt-4o               200    0 %  200.0k   20.0k      1.20          -
vendor/longlonglonglonglonglonglonglonglonglong
                      11    0 %   11.0k    1100         ?          -
(no such model)        1    0 %    1000     100         0          -

WHY CALLS LEFT LOCAL  CALLS  PAID USD
restarting               20    0.0340
saturated                 3         ?

DAY (UTC)   CALLS  # local . elsewhere or failed
2026-11-20    100  #####
2026-11-21      0
2026-11-22      0
2026-11-23   1130  ################################################.............
2026-11-24      0
2026-11-25      0
2026-11-26      0
2026-11-27      4  .

+ and more: unknown for some of the calls.  ? unknown.
`

// TestUsagePage: the page in ASCII and with block characters, no wider than a terminal.
func TestUsagePage(t *testing.T) {
	blocks := strings.NewReplacer("#", "█").Replace(weekPage)
	blocks = strings.NewReplacer(" . elsewhere", " ░ elsewhere", ".............\n", "░░░░░░░░░░░░░\n", "  .\n", "  ░\n").Replace(blocks)
	for name, tc := range map[string]struct {
		display display
		want    string
	}{"plain": {display{}, weekPage}, "blocks": {display{unicode: true}, blocks}} {
		var out bytes.Buffer
		if err := printUsage(&out, weekOfUsage(), "", tc.display); err != nil || out.String() != tc.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, out.String(), tc.want)
		}
		for line := range strings.Lines(out.String()) {
			if columns(strings.TrimSuffix(line, "\n")) > pageWidth {
				t.Errorf("over %d columns: %s", pageWidth, line)
			}
		}
	}
	var out bytes.Buffer
	if err := printUsage(&out, weekOfUsage(), "", display{color: true}); err != nil || !strings.Contains(out.String(), "\x1b[32m#####\x1b[33m\x1b[0m\n") {
		t.Errorf("in colours: %v\n%q", err, out.String())
	}
}

// TestUnknownUsage: an unknown figure is never printed as 0.
func TestUnknownUsage(t *testing.T) {
	unknown := control.Sums{Calls: 3, Local: 1, Paid: 2, UnknownTokens: 3, UnknownCost: 2, UnknownSaved: 1}
	u := control.Usage{Total: unknown, Groups: []control.UsageGroup{group("x", unknown)}, Incomplete: "the ledger is spilling: no room"}
	var out bytes.Buffer
	if err := printUsage(&out, u, "key", display{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Calls may be missing here: the ledger is spilling: no room\n", "tokens  unknown for 3 calls\n", "paid    unknown for 2 calls\n", "saved   unknown for 1 call\n",
		"KEY  CALLS  LOCAL  IN  OUT  PAID USD  SAVED USD\nx        3   33 %   ?    ?         ?          ?\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("without %q:\n%s", want, out.String())
		}
	}
	out.Reset()
	if err := printUsageLine(&out, u); err != nil || !strings.HasSuffix(out.String(), " 3 calls since 0001-01-01T00:00:00Z, 33 % local, paid ? USD, saved ? USD\n") {
		t.Errorf("%v %s", err, out.String())
	}
	out.Reset()
	u.FleetReport = control.FleetReport{Fleet: &control.Fleet{Joined: true}, Answered: []string{"a", "b"}, Missing: []control.MissingBox{{Box: "c", Why: "has been silent for 4s"}}}
	if err := printUsageLine(&out, u); err != nil || !strings.HasSuffix(out.String(), "saved ? USD; the sums lack c: it has been silent for 4s\n") {
		t.Errorf("%v %s", err, out.String())
	}
	out.Reset()
	if err := writeUsageCSV(&out, u, "key"); err != nil || !strings.HasSuffix(out.String(), "\nx,3,0,1,2,0,0,,,,3,,2,,1\n") {
		t.Errorf("%v %s", err, out.String())
	}
	out.Reset()
	u.Groups[0].Name = "a\x1b[31m\tb" // sent by a client
	if err := errors.Join(writeUsageCSV(&out, u, "model"), printUsage(&out, u, "model", display{})); err != nil || strings.Contains(out.String(), "\x1b") || !strings.Contains(out.String(), "\na?[31m?b ") {
		t.Errorf("%v %q", err, out.String())
	}
	out.Reset()
	if err := printUsage(&out, control.Usage{}, "", display{}); err != nil || !strings.HasPrefix(out.String(), "No call was recorded from ") {
		t.Errorf("%v %s", err, out.String())
	}
}

func TestUsagePageHasRoom(t *testing.T) {
	var u control.Usage
	for i := range 40 {
		day := time.Date(2026, 10, 1+i, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
		u.Days = append(u.Days, group(day, figures(int64(i+1), 1, nil, nil)))
		u.Groups = append(u.Groups, group(day, figures(int64(i+1), 0, amount(1), nil)))
		u.Total.Add(u.Groups[i].Sums)
	}
	var out bytes.Buffer
	if err := printUsage(&out, u, "", display{}); err != nil {
		t.Fatal(err)
	}
	for want, n := range map[string]int{"(26 others)    351    0 %  351.0k  35.1k     26.00": 1, "elsewhere or failed, the last 31 days": 1, "\n2026-10-10": 1, "2026-10-09": 0} {
		if strings.Count(out.String(), want) != n {
			t.Errorf("%q is not there %d times:\n%s", want, n, out.String())
		}
	}
}

func TestFiguresForPeople(t *testing.T) {
	for picodollars, want := range map[int64]string{
		0: "0", 1: "<0.000001", 825_000: "<0.000001", 1_500_000: "0.000002", 12_345_678_901: "0.0123", 1_234_567_890_123: "1.23", 12_345_670_000_000_000: "12345.67",
	} {
		if got := dollars(control.USD(picodollars)); got != want {
			t.Errorf("%d is %s, want %s", picodollars, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 9999: "9999", 10_000: "10.0k", 123_456: "123.5k", 12_345_678: "12.3M", 2_000_000_000: "2.0G"} {
		if got := abbreviate(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
	for parts, want := range map[[2]int64]string{{0, 0}: "-", {0, 5}: "0 %", {1, 1000}: "<1 %", {999, 1000}: "99 %", {5, 5}: "100 %"} {
		if got := percent(parts[0], parts[1]); got != want {
			t.Errorf("%v is %s, want %s", parts, got, want)
		}
	}
}

// TestDisplayOf: blocks where the locale has them, and colours only on a terminal.
func TestDisplayOf(t *testing.T) {
	for name, tc := range map[string]struct {
		all, ctype, lang string
		unicode          bool
	}{
		"none": {"", "", "", false}, "C": {"C", "C.UTF-8", "C.UTF-8", false}, "by kind": {"", "de_DE.utf8", "C", true}, "by language": {"", "", "en_US.UTF-8", true},
	} {
		t.Setenv("LC_ALL", tc.all)
		t.Setenv("LC_CTYPE", tc.ctype)
		t.Setenv("LANG", tc.lang)
		f, err := os.Create(filepath.Join(t.TempDir(), "page"))
		if err != nil {
			t.Fatal(err)
		}
		if got := displayOf(f); got != (display{unicode: tc.unicode}) {
			t.Errorf("%s: %+v", name, got)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
