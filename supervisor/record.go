package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// record is what a server's folder says of the process that runs for it, so
// that the next llmsup can end one that outlived the last. A pid alone names
// nobody: pid, start time and boot together name one process for good.
type record struct {
	PID       int    `json:"pid"` // of the process, and of its group
	StartTime uint64 `json:"start_time"`
	BootID    string `json:"boot_id"`
	Mark      string `json:"mark"` // stands in the environment of the whole group
}

const (
	recordName = "process.json"
	// markVariable carries a record's mark. It is inherited, so a process that
	// a wrapper started can be told from a stranger's.
	markVariable = "LLMSUP_CHILD"
)

// writeRecord replaces a folder's record atomically. Unlike renameio, which the other
// packages use, it does not sync the file: a record is of no use after a reboot, and
// no server should wait for a slow disk before it starts.
func writeRecord(dir string, r record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, recordName)
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func removeRecord(dir string) { _ = os.Remove(filepath.Join(dir, recordName)) }

// leftoverPatience is how long a killed process may take to be gone. One that
// gives gigabytes of memory back takes a while.
const leftoverPatience = 10 * time.Second

// KillOrphans ends what an earlier llmsup has left running, whatever servers it
// had: dir has a folder for each. The daemon calls it when it holds the state
// directory, before it starts anything.
func KillOrphans(dir string, log zerolog.Logger) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Error().Err(err).Msg("what an earlier llmsup may have left running could not be looked for")
	}
	for _, entry := range entries {
		ended, err := endLeftover(filepath.Join(dir, entry.Name()))
		if err != nil {
			log.Error().Err(err).Str("server", entry.Name()).Msg("a llama-server that an earlier llmsup left behind could not be ended")
		}
		if ended > 0 {
			log.Warn().Int("processes", ended).Str("server", entry.Name()).Msg("ended the llama-server that an earlier llmsup had left behind")
		}
	}
}

// endLeftover ends what a llmsup that is no more has left running, as the
// record in its folder says, and nothing else. The caller holds the state
// directory, so no living llmsup owns the record. It returns how many processes
// it ended.
func endLeftover(dir string) (ended int, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, recordName))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer removeRecord(dir)
	var r record
	if json.Unmarshal(raw, &r) != nil || r.PID <= 1 || r.BootID != bootID() {
		return 0, nil // of another boot, or not of llmsup's making
	}
	for _, pid := range withMembers(r.PID) {
		gone, err := r.end(pid)
		if err != nil {
			return ended, fmt.Errorf("end the leftover process %d: %w", pid, err)
		}
		if gone {
			ended++
		}
	}
	return ended, nil
}

// end kills a process if it is the record's, and waits until it is gone. The
// pidfd is taken before the look at it, so that the signal can't reach another
// process that got the number in between.
func (r record) end(pid int) (ended bool, err error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false, nil //nolint:nilerr // there is no such process
	}
	defer unix.Close(fd)
	if !r.owns(pid) {
		return false, nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return false, err
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(leftoverPatience); time.Now().Before(deadline); {
		n, err := unix.Poll(poll, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, err
		}
		if n > 0 {
			return true, nil
		}
	}
	return false, fmt.Errorf("it is still there %s after SIGKILL", leftoverPatience)
}

// owns says whether a process is the one that the record speaks of, or one of
// its group that carries its mark.
func (r record) owns(pid int) bool {
	if pid == r.PID && r.StartTime != 0 && startTime(pid) == r.StartTime {
		return true
	}
	environ, err := os.ReadFile(procPath(pid, "environ"))
	return err == nil && r.Mark != "" && strings.Contains("\x00"+string(environ), "\x00"+markVariable+"="+r.Mark+"\x00")
}
