package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
)

// completions are what a shell has to read to complete llmsup's command line.
// bash and zsh ask llmsup itself, which urfave/cli makes it answer.
var completions = map[string]func(*cli.App) (string, error){
	"bash": func(*cli.App) (string, error) { return bashCompletion, nil },
	"zsh":  func(*cli.App) (string, error) { return zshCompletion, nil },
	"fish": (*cli.App).ToFishCompletion,
}

// After "--" llmsup is not asked: what follows is llama-server's, and the
// question would be taken for one of its flags.
const bashCompletion = `# bash completion for llmsup
_llmsup() {
	local word current=${COMP_WORDS[COMP_CWORD]}
	local -a line=("${COMP_WORDS[@]:0:COMP_CWORD}")
	COMPREPLY=()
	for word in "${line[@]}"; do
		if [[ $word == -- ]]; then return; fi
	done
	if [[ $current == -* ]]; then line+=("$current"); fi
	while IFS= read -r word; do
		if [[ $word == "$current"* ]]; then COMPREPLY+=("$word"); fi
	done < <("${line[@]}" --generate-bash-completion 2>/dev/null)
}
complete -o bashdefault -o default -F _llmsup llmsup
`

const zshCompletion = `#compdef llmsup
# zsh completion for llmsup
_llmsup() {
	local -a line answers
	line=("${(@)words[1,CURRENT-1]}")
	if (( ${line[(I)--]} )); then
		_files
		return
	fi
	if [[ ${words[CURRENT]} == -* ]]; then line+=("${words[CURRENT]}"); fi
	answers=("${(@f)$("${line[@]}" --generate-bash-completion 2>/dev/null)}")
	answers=("${(@)answers:#}")
	if (( ${#answers} )); then
		compadd -- "${answers[@]}"
	else
		_files
	fi
}
if [[ $funcstack[1] == _llmsup ]]; then
	_llmsup "$@"
else
	compdef _llmsup llmsup
fi
`

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print what makes a shell complete llmsup's commands and flags",
		ArgsUsage: "bash|zsh|fish",
		UsageText: "llmsup completion bash|zsh|fish",
		Description: "scripts/install.sh puts it where the shells look. For this shell alone:\n" +
			"  source <(llmsup completion bash)      (or zsh)\n" +
			"  llmsup completion fish | source",
		OnUsageError: onUsageError,
		BashComplete: func(*cli.Context) { fmt.Println("bash\nzsh\nfish") },
		Action: func(c *cli.Context) error {
			make, known := completions[c.Args().First()]
			if !known || c.NArg() != 1 {
				return usagef("llmsup completion takes the name of a shell: bash, zsh or fish")
			}
			text, err := make(c.App)
			if err != nil {
				return fmt.Errorf("make the completion: %w", err)
			}
			_, err = os.Stdout.WriteString(text)
			return err
		},
	}
}

func manCommand() *cli.Command {
	return &cli.Command{
		Name:         "man",
		Usage:        "print the manual page",
		UsageText:    "llmsup man",
		Description:  "scripts/install.sh puts it where man looks. Without that: llmsup man | man -l -",
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			page, err := manPage(c.App)
			if err != nil {
				return fmt.Errorf("make the manual page: %w", err)
			}
			_, err = os.Stdout.WriteString(page)
			return err
		},
	}
}

// manPage is urfave/cli's, with two lines of it mended: its title names neither
// the program nor the manual, and says nothing of the exit codes.
func manPage(app *cli.App) (string, error) {
	page, err := app.ToManWithSection(1)
	if err != nil {
		return "", err
	}
	lines := strings.Split(page, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".TH ") {
			lines[i] = ".TH LLMSUP 1 \"\" \"llmsup\" \"User Commands\""
			break
		}
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n") + `
.SH EXIT STATUS
0 done, 1 failed, 2 wrong usage, 3 no daemon answers at the control socket.
.SH FILES
.TP
/etc/llmsup/llmsup.yaml
the configuration that the systemd unit runs
.TP
/etc/llmsup/credentials/openrouter
the key for OpenRouter, which systemd passes to the service alone
.TP
/var/lib/llmsup
state
.TP
/run/llmsup/control.sock
the control socket
`, nil
}
