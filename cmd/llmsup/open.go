package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"github.com/urfave/cli/v2"
)

func openCommand() *cli.Command {
	return &cli.Command{
		Name:      "open",
		Usage:     "print the address of the web page, and open it on a desktop",
		UsageText: "llmsup open",
		Description: "Prints where the daemon serves its web page. On a terminal of a desktop it also opens the page in a browser, with " +
			"xdg-open. From another machine, use the name of this one in the address.",
		Flags:        []cli.Flag{controlFlag()},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			status, err := daemonClient(c).Status(c.Context)
			if err != nil {
				return err
			}
			if status.Page == "" {
				return errors.New("this llmsup serves no web page: set page: {enabled: true} in llmsup.yaml, and run llmsup reload")
			}
			if _, err := os.Stdout.WriteString(status.Page + "\n"); err != nil {
				return err
			}
			if opener := findOpener(isTerminal(os.Stdout), os.Getenv); opener != "" {
				// The opener replaces this process, so that none is left behind.
				return syscall.Exec(opener, []string{opener, status.Page}, os.Environ())
			}
			return nil
		},
	}
}

// findOpener returns the path of xdg-open; "" = there is none, no desktop, or no person at
// a terminal.
func findOpener(terminal bool, env func(string) string) string {
	if !terminal || env("DISPLAY") == "" && env("WAYLAND_DISPLAY") == "" {
		return ""
	}
	for _, dir := range filepath.SplitList(env("PATH")) {
		path := filepath.Join(dir, "xdg-open")
		if info, err := os.Stat(path); err == nil && filepath.IsAbs(path) && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}
