package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// completers are the commands that make each shell complete the command line in $LINE
// and print its offers, one per line, without the user's own configuration.
var completers = map[string][]string{
	"bash": {"bash", "--norc", "--noprofile", "-c", `
		source <(llmsup completion bash)
		read -ra COMP_WORDS <<<"$LINE"
		[[ $LINE == *' ' ]] && COMP_WORDS+=('')
		COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
		# run what "complete" has registered
		function=$(complete -p llmsup | sed -E 's/.*-F ([^ ]+).*/\1/')
		$function
		printf '%s\n' "${COMPREPLY[@]}"`},
	// zsh completes only in its line editor, so it gets a terminal. The terminal echoes
	// the input, so the words to wait for are typed differently than they are printed.
	"zsh": {"zsh", "-f", "-c", `
		zmodload zsh/zpty
		zpty z zsh -f -i
		zpty -w z 'PS1=; unsetopt zle_bracketed_paste 2>/dev/null; autoload -Uz compinit; compinit -u -d $TMPDIR/dump; source <(llmsup completion zsh)'
		zpty -w z 'zstyle ":completion:*" list-prompt ""; zstyle ":completion:*" menu no; LISTMAX=10000; COLUMNS=40; show() { compadd() { [[ $1 == -- ]] && shift && print -rl -- $@ >>$TMPDIR/offered; }; words=(${=LINE}); [[ $LINE == *" " ]] && words+=(""); CURRENT=$#words; _files() { : }; _llmsup; unfunction compadd }; zle -C show complete-word show; bindkey "^T" show; print rea""dy'
		zpty -r -m z line '*ready*'
		zpty -n -w z $'\x14'
		zpty -w z 'print ov""er'
		zpty -r -m z line '*over*'
		cat $TMPDIR/offered 2>/dev/null
		true`},
	"fish": {"fish", "--no-config", "-c", `llmsup completion fish | source; complete -C "$LINE" | string split -f1 \t; true`},
}

// TestCompletion checks the completions that each shell offers for some command lines.
func TestCompletion(t *testing.T) {
	lines := map[string]struct {
		line      string
		want, not []string
	}{
		"a command":           {"llmsup re", []string{"restart", "reload"}, []string{"start", "status"}},
		"all commands":        {"llmsup ", []string{"start", "status", "restart", "completion", "man"}, []string{"--json"}},
		"a flag":              {"llmsup start --li", []string{"--listen"}, []string{"--model", "start"}},
		"a flag of another":   {"llmsup status --j", []string{"--json"}, []string{"--listen"}},
		"a flag after a name": {"llmsup drain chat --ti", []string{"--timeout"}, []string{"--listen"}},
		"a flag of pull":      {"llmsup pull --q", []string{"--quant"}, []string{"--listen"}},
		"a flag of fit":       {"llmsup fit --v", []string{"--vram"}, []string{"--listen"}},
		"a flag of models rm": {"llmsup models rm --y", []string{"--yes"}, []string{"--listen"}},
		"the fleet":           {"llmsup bo", []string{"boxes"}, []string{"start"}},
		"of models":           {"llmsup models ", []string{"rm"}, []string{"help", "h", "start"}},
		"a model":             {"llmsup fit ", nil, []string{"help", "h", "start"}},
		"a model to remove":   {"llmsup models rm ", nil, []string{"help", "h", "start"}},
		"a subcommand":        {"llmsup key n", []string{"new"}, []string{"start"}},
		// llmsup must not run here: it would start, with --generate-bash-completion as a flag of llama-server.
		"a flag of llama-server": {"llmsup start --demo -- --l", nil, []string{"start"}},
	}
	for shell, command := range completers {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(command[0]); err != nil {
				notRun(t, "no "+shell+" on PATH: apt-get install "+shell)
			}
			for name, c := range lines {
				if shell == "fish" && name == "a flag of llama-server" {
					continue // its completion does not run llmsup
				}
				t.Run(name, func(t *testing.T) {
					cmd := exec.Command(command[0], command[1:]...)
					home := t.TempDir()
					cmd.Env = append(os.Environ(), "LINE="+c.line, "HOME="+home, "TMPDIR="+home, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home, "TERM=dumb",
						"LLMSUP_LLAMA_SERVER="+filepath.Join(home, "none"), "LLMSUP_STATE_DIR="+home)
					out, err := cmd.CombinedOutput()
					if err != nil {
						t.Fatalf("%v: %s", err, out)
					}
					offered := strings.Split(strings.TrimSpace(string(out)), "\n")
					for _, want := range c.want {
						if !slices.Contains(offered, want) {
							t.Errorf("for %q %s offers %q, without %s", c.line, shell, offered, want)
						}
					}
					for _, not := range c.not {
						if shell != "zsh" && slices.Contains(offered, not) { // zsh itself filters what it is given
							t.Errorf("for %q %s offers %q, with %s", c.line, shell, offered, not)
						}
					}
				})
			}
		})
	}
}

// TestManPage: man and mandoc read the page without a warning, and it describes every
// command.
func TestManPage(t *testing.T) {
	page, err := exec.Command("llmsup", "man").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range newApp(nil).Commands {
		if !strings.Contains(string(page), ".SH "+command.Name+"\n") {
			t.Errorf("the page does not describe %s", command.Name)
		}
	}
	file := filepath.Join(t.TempDir(), "llmsup.1")
	if err := os.WriteFile(file, page, 0o600); err != nil {
		t.Fatal(err)
	}
	for program, args := range map[string][]string{
		"man":    {"--warnings=w", "-l", file},
		"mandoc": {"-T", "lint", "-W", "error", file},
	} {
		t.Run(program, func(t *testing.T) {
			if _, err := exec.LookPath(program); err != nil {
				notRun(t, "no "+program+" on PATH: apt-get install man-db mandoc")
			}
			cmd := exec.Command(program, args...)
			cmd.Env = append(os.Environ(), "MANWIDTH=100", "LC_ALL=C.UTF-8", "MANPAGER=cat")
			var warnings strings.Builder
			cmd.Stderr = &warnings
			shown, err := cmd.Output()
			if err != nil || warnings.Len() > 0 {
				t.Errorf("%s: %v, %s", program, err, warnings.String())
			}
			if program == "man" {
				if !strings.Contains(string(shown), "no daemon answers") {
					t.Errorf("it shows %.200s", shown)
				}
				describes(t, string(shown), newApp(nil).Commands)
			}
		})
	}
}

// describes checks that a page, as man shows it, has the descriptions of all commands. Where it
// breaks lines does not count.
func describes(t *testing.T, page string, commands []*cli.Command) {
	t.Helper()
	unbroken := func(text string) string {
		return strings.NewReplacer("-", "", "\u2010", "").Replace(strings.Join(strings.Fields(text), ""))
	}
	page = unbroken(page)
	for _, c := range commands {
		for line := range strings.Lines(c.Description) {
			if !strings.Contains(page, unbroken(line)) {
				t.Errorf("%s: the page lacks %q", c.Name, line)
			}
		}
		describes(t, page, c.Subcommands)
	}
}
