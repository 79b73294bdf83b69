package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
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
			&cli.BoolFlag{Name: "watch", Usage: "show them anew every second, until Ctrl-C"},
			controlFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			client := daemonClient(c)
			show := printStatus
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
func printStatus(out io.Writer, s control.Status) error {
	fmt.Fprintf(out, "llmsup %s takes calls at http://%s/v1, %s in flight\n", s.Version, s.Listen, plural(s.Inflight, "call"))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(s.Servers) > 0 {
		fmt.Fprintln(w, "\nSERVER\tSTATE\tFOR\tPID\tRESTARTS\tBUSY\tQUEUED\tCONTEXT\tMODEL")
		for _, v := range s.Servers {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%d\t%d\t%s\n", v.Name, v.State, since(v.Since), orDash(v.PID), v.Restarts,
				busy(v), v.Queued, v.CtxSize, v.Model)
		}
	}
	printGPUs(w, s)
	if len(s.Upstreams) > 0 {
		fmt.Fprintln(w, "\nUPSTREAM\tSTATE")
		for _, u := range s.Upstreams {
			state := "usable"
			if !u.Healthy {
				state = "not usable: " + u.Reason
			}
			fmt.Fprintf(w, "%s\t%s\n", u.Name, state)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	printMoney(out, s)
	printGPUReasons(out, s)
	for _, v := range s.Servers {
		printVRAM(out, v)
		if v.Reason != "" {
			fmt.Fprintf(out, "\n%s is %s: %s\n", v.Name, v.State, v.Reason)
		}
		if e := v.LastExit; e != nil && len(e.Tail) > 0 {
			fmt.Fprintf(out, "\n%s last ended %s ago (%s); its last lines were\n", v.Name, since(e.At), e.Class)
			const most = 10
			for _, line := range e.Tail[max(0, len(e.Tail)-most):] {
				fmt.Fprintln(out, "  "+printable(line))
			}
		}
	}
	return nil
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
