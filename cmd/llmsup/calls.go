package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

func callsCommand() *cli.Command {
	return &cli.Command{
		Name:      "calls",
		Usage:     "show calls in flight and the last ones that ended, or cancel one",
		UsageText: "llmsup calls [-f] [-n 20] [--model M] [--key K] [--backend B] [--reason R] [--status 5xx] [--since 1h] [--fleet] [--json]\nllmsup calls show ID\nllmsup calls cancel ID",
		Description: "WHY is the reason why the route's first choice did not answer. OUT are the tokens of the answer; of a call in flight, the " +
			"events of its answer so far. No prompt and no answer is stored or shown. With --fleet, BOX is the box that the client has called.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "print a line when a call begins and when it ends, until Ctrl-C"},
			&cli.IntFlag{Name: "limit", Aliases: []string{"n"}, Value: control.DefaultCalls, Usage: "show the last `N` calls that ended"},
			&cli.StringFlag{Name: "model", Usage: "only calls for this `MODEL`, as the client names it"},
			&cli.StringFlag{Name: "key", Usage: "only calls with the client key of this `NAME`"},
			&cli.StringFlag{Name: "backend", Usage: "only calls that this `BACKEND` has or has answered"},
			&cli.StringFlag{Name: "reason", Usage: "only calls that the first choice did not answer for this `REASON`"},
			&cli.StringFlag{Name: "status", Usage: "only calls that ended with this HTTP `STATUS`, such as 503 or 5xx"},
			&cli.StringFlag{Name: "since", Usage: "only calls from this `TIME` on: 24h, 7d or 2w ago, a date (2026-11-01), or a time (2026-11-01T12:00:00Z)"},
			fleetFlag("show their calls together, by the boxes' clocks"),
			&cli.BoolFlag{Name: "json", Usage: "print the calls as a JSON object; with -f, one per line"},
			controlFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			q, err := parseCallsQuery(c)
			if err != nil {
				return err
			}
			if c.Bool("follow") {
				return followCalls(c, q)
			}
			list := daemonClient(c).Calls
			if c.Bool("fleet") {
				list = daemonClient(c).FleetCalls
			}
			page, err := list(c.Context, q)
			if err != nil {
				return err
			}
			defer warnMissing(page.FleetReport, listLack)
			if c.Bool("json") {
				return printJSON(os.Stdout, page)
			}
			return printCalls(os.Stdout, page)
		},
		Subcommands: []*cli.Command{showCallCommand(), cancelCallCommand()},
	}
}

func parseCallsQuery(c *cli.Context) (q control.CallsQuery, err error) {
	q = control.CallsQuery{
		Model: c.String("model"), Key: c.String("key"), Backend: c.String("backend"), Reason: c.String("reason"), Status: c.String("status"), Limit: c.Int("limit"),
	}
	if c.IsSet("since") {
		since, err := parseTimeArg("since", c.String("since"))
		if err != nil {
			return q, err
		}
		q.Since = since.time(time.Now())
	}
	if c.Bool("follow") && c.Bool("fleet") {
		return q, usagef("-f follows the calls of this box only; for those of all boxes, run llmsup calls --fleet again, for example with watch -n 2 llmsup calls --fleet")
	}
	if q.Limit == 0 {
		return q, usagef("-n 0 is not between 1 and %d", control.MaxCalls)
	}
	if err := q.Check(); err != nil {
		return q, usagef("%w", err)
	}
	return q, nil
}

func followCalls(c *cli.Context, q control.CallsQuery) error {
	show := printCallEvent
	if c.Bool("json") {
		lines := json.NewEncoder(os.Stdout)
		show = func(e control.CallEvent) error { return lines.Encode(e) }
	}
	err := daemonClient(c).FollowCalls(c.Context, q, show)
	if errors.Is(err, context.Canceled) {
		return nil // Ctrl-C, the normal end
	}
	return err
}

func showCallCommand() *cli.Command {
	return &cli.Command{
		Name:        "show",
		Usage:       "show one call, and which backends were tried",
		ArgsUsage:   "ID",
		UsageText:   "llmsup calls show ID [--json]",
		Description: "ID is that of llmsup calls. If this box does not have the call, all boxes of its fleet are asked, at most 2 s.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print the call as a JSON object"},
			controlFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			id, err := oneCall(c)
			if err != nil {
				return err
			}
			client := daemonClient(c)
			call, err := client.Call(c.Context, id)
			if errors.Is(err, control.ErrNoCall) {
				call, err = askAll(err, func() (control.Call, error) { return client.FleetCall(c.Context, id) })
			}
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(os.Stdout, call)
			}
			return printCall(os.Stdout, call)
		},
	}
}

func cancelCallCommand() *cli.Command {
	return &cli.Command{
		Name:      "cancel",
		Usage:     "cancel a call in flight",
		ArgsUsage: "ID",
		UsageText: "llmsup calls cancel ID",
		Description: "ID is that of llmsup calls, or an X-Request-Id: then all calls in flight that have it are cancelled. If this box has none, all boxes of its fleet are asked, " +
			"at most 2 s. The backend stops at once. The client receives an error that tells it not to retry. A paid call costs what it costs when its client closes the connection.",
		Flags:        []cli.Flag{controlFlag()},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			id, err := oneCall(c)
			if err != nil {
				return err
			}
			client := daemonClient(c)
			calls, err := client.CancelCall(c.Context, id)
			cancelled := control.Cancelled{Calls: calls}
			if errors.Is(err, control.ErrNoCall) {
				cancelled, err = askAll(err, func() (control.Cancelled, error) { return client.FleetCancelCall(c.Context, id) })
			}
			if err != nil {
				return err
			}
			for _, call := range cancelled.Calls {
				fmt.Printf("cancelled %s%s: %s, after %s\n", call.ID, onBox(call), printable(call.Model), milliseconds(call.MS))
			}
			if !slices.ContainsFunc(cancelled.Calls, func(call control.Call) bool { return call.ID == id }) { // an X-Request-Id may be that of several calls
				warnMissing(cancelled.FleetReport, "it is not known whether a call was cancelled on")
			}
			return nil
		},
	}
}

// askAll asks the fleet for a call that this box does not have. Without a fleet, that error stays.
func askAll[T any](notHere error, ask func() (T, error)) (T, error) {
	found, err := ask()
	if errors.Is(err, control.ErrNoFleet) {
		err = notHere
	}
	return found, err
}

// onBox says which box of the fleet has a call; "" = this one.
func onBox(c control.Call) string {
	if c.Box == "" {
		return ""
	}
	return " on " + c.Box
}

// oneCall returns the only argument of a command.
func oneCall(c *cli.Context) (string, error) {
	if c.NArg() != 1 || c.Args().First() == "" {
		return "", usagef("%s takes the id of one call; llmsup calls lists them", c.Command.HelpName)
	}
	return c.Args().First(), nil
}
