package main

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v2"
)

// completions generates each shell's completion script. Those of bash and zsh run
// llmsup --generate-bash-completion, which urfave/cli implements.
var completions = map[string]func(*cli.App) (string, error){
	"bash": func(*cli.App) (string, error) { return bashCompletion, nil },
	"zsh":  func(*cli.App) (string, error) { return zshCompletion, nil },
	"fish": (*cli.App).ToFishCompletion,
}

// After "--" the scripts do not run llmsup: --generate-bash-completion would be passed
// on to llama-server as one of its flags.
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
		Usage:     "print a shell completion script",
		ArgsUsage: "bash|zsh|fish",
		UsageText: "llmsup completion bash|zsh|fish",
		Description: "scripts/install.sh installs it. To load it into the current shell:\n" +
			"  source <(llmsup completion bash)      (or zsh)\n" +
			"  llmsup completion fish | source",
		OnUsageError: onUsageError,
		BashComplete: func(*cli.Context) { fmt.Println("bash\nzsh\nfish") },
		Action: func(c *cli.Context) error {
			generate, known := completions[c.Args().First()]
			if !known || c.NArg() != 1 {
				return usagef("llmsup completion takes the name of a shell: bash, zsh or fish")
			}
			text, err := generate(c.App)
			if err != nil {
				return fmt.Errorf("generate the completion script: %w", err)
			}
			_, err = os.Stdout.WriteString(text)
			return err
		},
	}
}
