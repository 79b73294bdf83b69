package main

import (
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/config/units"
	"github.com/llmsup/llmsup/cmd/internal/control"
)

// usageInterval is how often usage --watch refreshes.
const usageInterval = 2 * time.Second

func usageCommand() *cli.Command {
	return &cli.Command{
		Name:      "usage",
		Usage:     "show calls, tokens, costs and what local servers saved",
		UsageText: "llmsup usage [--since 7d] [--until 2026-12-01] [--by " + strings.Join(control.UsageBy, "|") + "] [--fleet] [--json|--csv] [--watch]",
		Description: "Without --by it prints the totals, the figures of each model, why calls for local models were answered " +
			"elsewhere, and a chart of the days (in UTC). Unknown costs are reported as unknown; totals leave them out. " +
			"A call is counted by the box that the client has called, so that the sums of --fleet are exact.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "since", Value: "7d", Usage: "count calls from this `TIME` on: 24h, 7d or 2w ago, a date (2026-11-01), or a time (2026-11-01T12:00:00Z)"},
			&cli.StringFlag{Name: "until", Usage: "count calls before this `TIME`, in the same forms", DefaultText: "now"},
			&cli.StringFlag{Name: "by", Usage: "group by `WHAT`: " + strings.Join(control.UsageBy, ", ") + "; with --fleet also box"},
			fleetFlag("add up their calls"),
			&cli.BoolFlag{Name: "json", Usage: "print the figures as a JSON object; with --watch, one per line"},
			&cli.BoolFlag{Name: "csv", Usage: "print one line per group as CSV, by model or by --by"},
			&cli.BoolFlag{Name: "watch", Usage: "refresh every two seconds until Ctrl-C; one line each if not a terminal"},
			controlFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			q, err := parseUsageQuery(c)
			if err != nil {
				return err
			}
			return q.run(c, daemonClient(c), os.Stdout)
		},
	}
}

// usageQuery is what the command line asks for.
type usageQuery struct {
	since, until timeArg
	by           string
	fleet        bool // of all boxes
}

// timeArg is a point in time, absolute or relative to now.
type timeArg struct {
	at  time.Time
	ago time.Duration
}

func (m timeArg) time(now time.Time) time.Time {
	if m.at.IsZero() {
		return now.Add(-m.ago)
	}
	return m.at
}

func parseUsageQuery(c *cli.Context) (q usageQuery, err error) {
	if q.since, err = parseTimeArg("since", c.String("since")); err != nil {
		return q, err
	}
	if c.IsSet("until") {
		if q.until, err = parseTimeArg("until", c.String("until")); err != nil {
			return q, err
		}
	}
	now := time.Now()
	if !q.since.time(now).Before(q.until.time(now)) {
		if c.IsSet("until") {
			return q, usagef("--since %s is not before --until %s", c.String("since"), c.String("until"))
		}
		return q, usagef("--since %s is not in the past", c.String("since"))
	}
	q.by, q.fleet = c.String("by"), c.Bool("fleet")
	groups := control.UsageBy
	if q.fleet {
		groups = control.FleetUsageBy
	}
	switch {
	case q.by == "box" && !q.fleet:
		return q, usagef("--by box needs --fleet")
	case c.IsSet("by") && !slices.Contains(groups, q.by):
		return q, usagef("--by %q is not supported; choose one of %s", q.by, strings.Join(groups, ", "))
	case c.Bool("json") && c.Bool("csv"):
		return q, usagef("--json and --csv exclude each other; pass one of them")
	case c.Bool("csv") && c.Bool("watch"):
		return q, usagef("--csv prints one table and cannot be combined with --watch; use --json --watch")
	}
	return q, nil
}

func parseTimeArg(flag, text string) (timeArg, error) {
	if ago, err := units.ParseDuration(text); err == nil {
		return timeArg{ago: ago}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil && !at.IsZero() {
			return timeArg{at: at}, nil
		}
	}
	return timeArg{}, usagef("--%s %q is not a time (examples: 24h, 7d or 2w ago, 2026-11-01, 2026-11-01T12:00:00Z)", flag, text)
}

func (q usageQuery) run(c *cli.Context, client *control.Client, out *os.File) error {
	show := func(page io.Writer, u control.Usage) error { return printUsage(page, u, q.by, displayOf(out)) }
	switch {
	case c.Bool("json"):
		show = printJSON
	case c.Bool("csv"):
		if q.by == "" {
			q.by = "model"
		}
		show = func(out io.Writer, u control.Usage) error { return writeUsageCSV(out, u, q.by) }
	case c.Bool("watch") && !isTerminal(out):
		show = printUsageLine
	}
	fetch := func(ctx context.Context) (control.Usage, error) {
		now, until := time.Now(), time.Time{}
		if q.until != (timeArg{}) {
			until = q.until.time(now)
		}
		if q.fleet {
			return client.FleetUsage(ctx, q.since.time(now), until, q.by)
		}
		return client.Usage(ctx, q.since.time(now), until, q.by)
	}
	if c.Bool("watch") {
		if isTerminal(out) {
			show = withMissing(c, show, func(u control.Usage) control.FleetReport { return u.FleetReport }, sumsLack)
		}
		return watch(c.Context, usageInterval, out, fetch, show)
	}
	u, err := fetch(c.Context)
	if err != nil {
		return err
	}
	defer warnMissing(u.FleetReport, sumsLack)
	return show(out, u)
}
