package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// statusInterval is how often status --watch refreshes.
const statusInterval = time.Second

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "show servers, GPUs and upstreams of the running daemon",
		UsageText: "llmsup status [--fleet] [--json] [--watch]",
		Description: "The bar of a GPU shows its VRAM: a letter or a colour for each server, x or ▒ for other processes, and . for what is free. " +
			"? or ░ is in use, but of no process that the driver lists: one that has just ended, or the driver itself. " +
			"The progress of a load is its time so far, in relation to earlier loads of the model.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print the figures as a JSON object; with --watch, one per line"},
			&cli.BoolFlag{Name: "watch", Usage: "refresh every second until Ctrl-C"},
			fleetFlag("show the servers and GPUs of each"),
			controlFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			client := daemonClient(c)
			if c.Bool("fleet") {
				return fleetStatus(c, client)
			}
			show := func(out io.Writer, s control.Status) error { return printStatus(out, s, displayOf(os.Stdout)) }
			if c.Bool("json") {
				show = printJSON
			}
			if c.Bool("watch") {
				return watch(c.Context, statusInterval, os.Stdout, client.Status, show)
			}
			s, err := client.Status(c.Context)
			if err != nil {
				return err
			}
			return show(os.Stdout, s)
		},
	}
}

// fleetStatus shows the status of all boxes.
func fleetStatus(c *cli.Context, client *control.Client) error {
	show := func(out io.Writer, s control.FleetStatus) error {
		return printFleetStatus(out, s, displayOf(os.Stdout))
	}
	if c.Bool("json") {
		show = printJSON
	}
	if c.Bool("watch") {
		return watch(c.Context, statusInterval, os.Stdout, client.FleetStatus, withMissing(c, show, func(s control.FleetStatus) control.FleetReport { return s.FleetReport }, listLack))
	}
	s, err := client.FleetStatus(c.Context)
	if err != nil {
		return err
	}
	defer warnMissing(s.FleetReport, listLack)
	return show(os.Stdout, s)
}

// printJSON prints a value for scripts, on one line.
func printJSON[T any](out io.Writer, v T) error { return json.NewEncoder(out).Encode(v) }

// printStatus prints the status for people.
func printStatus(out io.Writer, s control.Status, d display) error {
	p := &page{out: out, display: d}
	p.sentence("", "llmsup %s listens on %s, %s in flight", s.Version, s.URL(), plural(s.Inflight, "call"))
	if s.TLS != nil && s.TLS.Problem != "" {
		p.sentence("  ", "%s", printable(s.TLS.Problem))
	}
	p.serverTable(s.Servers)
	p.gpuTable(s.GPUs)
	p.vramBars(s.GPUs)
	p.upstreamTable(s.Upstreams)
	p.ledgerAndBudgets(s)
	if s.Fleet != nil {
		p.line("")
		p.sentence("  ", "%s", fleetLine(s.Fleet))
		if line := foreignBoxes(s.Fleet); line != "" {
			p.sentence("  ", "%s", line)
		}
		p.fleetConfig(s.Fleet.Configuration)
	}
	p.gpuConditions(s)
	for _, v := range s.Servers {
		p.server(v)
	}
	return p.err
}

func (p *page) serverTable(servers []control.Server) {
	if len(servers) == 0 {
		return
	}
	rows := [][]string{{"SERVER", "STATE", "FOR", "PID", "RESTARTS", "BUSY", "QUEUED", "CONTEXT"}}
	for _, v := range servers {
		rows = append(rows, []string{
			v.Name, v.State, since(v.Since), orDash(v.PID), fmt.Sprint(v.Restarts), busySlots(v), fmt.Sprint(v.Queued), orDash(v.CtxSize),
		})
	}
	p.line("")
	p.table(rows, wordTable)
}

func (p *page) upstreamTable(upstreams []control.Upstream) {
	if len(upstreams) == 0 {
		return
	}
	rows := [][]string{{"UPSTREAM", "STATE"}}
	for _, u := range upstreams {
		state := "usable"
		if !u.Healthy {
			state = "not usable: " + printable(u.Reason)
		}
		rows = append(rows, []string{u.Name, state})
	}
	p.line("")
	p.table(rows, textTable)
}

// server prints the details of a server that do not fit into the table.
func (p *page) server(v control.Server) {
	p.line("")
	p.sentence("  ", "%s: %s%s", v.Name, printable(v.Model), vramNeed(v))
	if about := aboutState(v); about != "" {
		p.line("")
		p.sentence("  ", "%s is %s: %s", v.Name, v.State, about)
	}
	if e := v.LastExit; e != nil && len(e.Tail) > 0 {
		p.line("")
		p.sentence("  ", "%s last exited %s ago (%s); its last lines were", v.Name, since(e.At), e.Class)
		const maxLines = 10
		for _, line := range e.Tail[max(0, len(e.Tail)-maxLines):] {
			p.sentence("    ", "  %s", printable(line))
		}
	}
}

// aboutState returns why a server is in its state, how far its model is loaded, and which
// calls wait for it.
func aboutState(v control.Server) string {
	var parts []string
	if v.Reason != "" {
		parts = append(parts, printable(v.Reason))
	}
	switch {
	case v.ReadyExpected == nil:
	case v.LoadProgress != nil:
		parts = append(parts, fmt.Sprintf("%.0f %%, %s left", 100**v.LoadProgress, until(*v.ReadyExpected)))
	default:
		parts = append(parts, "expected in "+until(*v.ReadyExpected))
	}
	switch {
	case v.WaitingSince == nil:
	case v.WaitingForModel == 1:
		parts = append(parts, "a call has waited for it for "+since(*v.WaitingSince))
	default:
		parts = append(parts, fmt.Sprintf("%d calls wait for it, the first for %s", v.WaitingForModel, since(*v.WaitingSince)))
	}
	return strings.Join(parts, "; ")
}

func busySlots(v control.Server) string {
	if v.Slots == 0 {
		return fmt.Sprint(v.Busy)
	}
	return fmt.Sprintf("%d of %d", v.Busy, v.Slots)
}
