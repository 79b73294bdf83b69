package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
)

// usageEvery is the pace of usage --watch.
const usageEvery = 2 * time.Second

func usageCommand() *cli.Command {
	return &cli.Command{
		Name:      "usage",
		Usage:     "show calls, tokens, what they cost and what local saved",
		UsageText: "llmsup usage [--since 7d] [--until 2026-12-01] [--by " + strings.Join(control.UsageBy, "|") + "] [--json|--csv] [--watch]",
		Description: "Without --by it prints a page: the totals, the figures by model, why calls for local were answered " +
			"elsewhere, and each day. Days are UTC's. Unknown costs are reported as unknown; totals leave them out.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "since", Value: "7d", Usage: "count from this `TIME` on: 24h, 7d or 2w ago, a date (2026-11-01), or a time (2026-11-01T12:00:00Z)"},
			&cli.StringFlag{Name: "until", Usage: "count what came before this `TIME`, of the same forms", DefaultText: "now"},
			&cli.StringFlag{Name: "by", Usage: "add up by `WHAT`: " + strings.Join(control.UsageBy, ", ")},
			&cli.BoolFlag{Name: "json", Usage: "print the figures for a program; with --watch one line each"},
			&cli.BoolFlag{Name: "csv", Usage: "print them for a spreadsheet, by model or by --by"},
			&cli.BoolFlag{Name: "watch", Usage: "refresh every two seconds until Ctrl-C; one line each if not a terminal"},
			controlFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			q, err := questionOf(c)
			if err != nil {
				return err
			}
			return q.run(c, daemonClient(c), os.Stdout)
		},
	}
}

// question is what somebody wants to know of usage.
type question struct {
	since, until moment
	by           string
}

// moment is a point in time, or one that is so long ago.
type moment struct {
	at  time.Time
	ago time.Duration
}

func (m moment) time(now time.Time) time.Time {
	if m.at.IsZero() {
		return now.Add(-m.ago)
	}
	return m.at
}

func questionOf(c *cli.Context) (q question, err error) {
	if q.since, err = parseMoment("since", c.String("since")); err != nil {
		return q, err
	}
	if c.IsSet("until") {
		if q.until, err = parseMoment("until", c.String("until")); err != nil {
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
	q.by = c.String("by")
	switch {
	case c.IsSet("by") && !slices.Contains(control.UsageBy, q.by):
		return q, usagef("--by %q is nothing that calls are added up by; there are %s", q.by, strings.Join(control.UsageBy, ", "))
	case c.Bool("json") && c.Bool("csv"):
		return q, usagef("--json and --csv exclude each other; pass one of them")
	case c.Bool("csv") && c.Bool("watch"):
		return q, usagef("--csv is one table, and goes with no --watch; --json does")
	}
	return q, nil
}

func parseMoment(flag, text string) (moment, error) {
	if ago, err := config.ParseSpan(text); err == nil {
		return moment{ago: ago}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil && !at.IsZero() {
			return moment{at: at}, nil
		}
	}
	return moment{}, usagef("--%s %q is no time; give one as in 24h, 7d or 2w (ago), 2026-11-01 or 2026-11-01T12:00:00Z", flag, text)
}

func (q question) run(c *cli.Context, client *control.Client, out *os.File) error {
	show := func(page io.Writer, u control.Usage) error { return printUsage(page, u, q.by, lookOf(out)) }
	switch {
	case c.Bool("json"):
		show = func(out io.Writer, u control.Usage) error { return json.NewEncoder(out).Encode(u) }
	case c.Bool("csv"):
		if q.by == "" {
			q.by = "model"
		}
		show = func(out io.Writer, u control.Usage) error { return writeUsageCSV(out, u, q.by) }
	case c.Bool("watch") && !isTerminal(out):
		show = printUsageLine
	}
	ask := func(ctx context.Context) (control.Usage, error) {
		now, until := time.Now(), time.Time{}
		if q.until != (moment{}) {
			until = q.until.time(now)
		}
		return client.Usage(ctx, q.since.time(now), until, q.by)
	}
	if c.Bool("watch") {
		return watch(c.Context, usageEvery, out, ask, show)
	}
	u, err := ask(c.Context)
	if err != nil {
		return err
	}
	return show(out, u)
}
