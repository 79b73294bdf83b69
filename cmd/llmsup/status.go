package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// watchEvery is the pace of status --watch.
const watchEvery = time.Second

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "show servers, GPUs and upstreams of the running daemon",
		UsageText: "llmsup status [--json] [--watch]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print the figures for a program; with --watch one line each"},
			&cli.BoolFlag{Name: "watch", Usage: "refresh every second until Ctrl-C"},
			controlFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			client := daemonClient(c)
			show := func(out io.Writer, s control.Status) error { return printStatus(out, s, lookOf(os.Stdout)) }
			if c.Bool("json") {
				show = printJSON
			}
			if c.Bool("watch") {
				return watch(c.Context, watchEvery, os.Stdout, client.Status, show)
			}
			s, err := client.Status(c.Context)
			if err != nil {
				return err
			}
			return show(os.Stdout, s)
		},
	}
}

func printJSON(out io.Writer, s control.Status) error { return json.NewEncoder(out).Encode(s) }

// printStatus writes the status for people.
func printStatus(out io.Writer, s control.Status, l look) error {
	p := &page{out: out, look: l}
	p.sentence("", "llmsup %s takes calls at http://%s/v1, %s in flight", s.Version, s.Listen, plural(s.Inflight, "call"))
	if len(s.Servers) > 0 {
		rows := [][]string{{"SERVER", "STATE", "FOR", "PID", "RESTARTS", "BUSY", "QUEUED", "CONTEXT"}}
		for _, v := range s.Servers {
			rows = append(rows, []string{
				v.Name, v.State, since(v.Since), orDash(v.PID), fmt.Sprint(v.Restarts), busy(v), fmt.Sprint(v.Queued), fmt.Sprint(v.CtxSize),
			})
		}
		p.line("")
		p.table(rows, wordTable)
	}
	p.gpus(s.GPUs)
	if len(s.Upstreams) > 0 {
		rows := [][]string{{"UPSTREAM", "STATE"}}
		for _, u := range s.Upstreams {
			state := "usable"
			if !u.Healthy {
				state = "not usable: " + printable(u.Reason)
			}
			rows = append(rows, []string{u.Name, state})
		}
		p.line("")
		p.table(rows, textTable)
	}
	p.moneyOf(s)
	p.gpuReasons(s)
	for _, v := range s.Servers {
		p.server(v)
	}
	return p.err
}

// server writes what the table has no room for.
func (p *page) server(v control.Server) {
	p.line("")
	p.sentence("  ", "%s: %s%s", v.Name, printable(v.Model), vramOf(v))
	if v.Reason != "" {
		p.line("")
		p.sentence("  ", "%s is %s: %s", v.Name, v.State, printable(v.Reason))
	}
	if e := v.LastExit; e != nil && len(e.Tail) > 0 {
		p.line("")
		p.sentence("  ", "%s last ended %s ago (%s); its last lines were", v.Name, since(e.At), e.Class)
		const most = 10
		for _, line := range e.Tail[max(0, len(e.Tail)-most):] {
			p.sentence("    ", "  %s", printable(line))
		}
	}
}

func busy(v control.Server) string {
	if v.Slots == 0 {
		return fmt.Sprint(v.Busy)
	}
	return fmt.Sprintf("%d of %d", v.Busy, v.Slots)
}

func since(t time.Time) string {
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func orDash(pid int) string {
	if pid == 0 {
		return "-"
	}
	return fmt.Sprint(pid)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// printable keeps what a child printed from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
