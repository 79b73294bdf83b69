package page

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// logLines is how many of the last lines a page gets first, of llmsup and of the servers.
const logLines = 200

// Logs are the logs that a page shows.
type Logs interface {
	// Logs emits what servers printed, as control.Reader's does.
	Logs(ctx context.Context, q control.LogsRequest, begin func() error, emit func(control.LogLine) error) error
	// OwnLog emits the last lines of llmsup's own log, as zerolog writes them, and later
	// ones until ctx ends.
	OwnLog(ctx context.Context, lines int, emit func(control.LogLine) error) error
}

// followLogs emits the lines of some servers, "" is llmsup itself, and none is all of them,
// until ctx ends. The lines of several are mixed as they come.
func followLogs(ctx context.Context, logs Logs, servers []string, emit func(control.LogLine) error) {
	var readers sync.WaitGroup
	defer readers.Wait()
	if len(servers) == 0 || slices.Contains(servers, "") {
		readers.Go(func() {
			_ = logs.OwnLog(ctx, logLines, func(line control.LogLine) error { // an error is emit's
				line.Level, line.Text = readLogLine(line.Text)
				return emit(line)
			})
		})
	}
	named := slices.DeleteFunc(slices.Clone(servers), func(name string) bool { return name == "" })
	if len(servers) > 0 && len(named) == 0 {
		return
	}
	err := logs.Logs(ctx, control.LogsRequest{Servers: named, Lines: logLines, Follow: true}, func() error { return nil }, emit)
	if err != nil && ctx.Err() == nil { // there is no server of that name
		_ = emit(control.LogLine{Level: "error", Text: err.Error()}) // fails only if the page was closed
	}
}

// readLogLine returns the level and the text of a line as zerolog writes it: the message,
// and the other fields as name=value.
func readLogLine(raw string) (level, text string) {
	if !gjson.Valid(raw) {
		return "", raw
	}
	line := gjson.Parse(raw)
	text = line.Get("message").String()
	line.ForEach(func(name, value gjson.Result) bool {
		switch name.String() {
		case "level":
			level = value.String()
		case "time", "message":
		default:
			shown := value.String()
			if value.Type == gjson.String && (shown == "" || strings.ContainsAny(shown, " =\"")) {
				shown = value.Raw
			}
			text += " " + name.String() + "=" + shown
		}
		return true
	})
	return level, text
}
