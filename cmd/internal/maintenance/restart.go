package maintenance

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// Restart replaces the processes of servers when their calls have ended. Servers that are
// unloaded have none. Drained servers are not restarted; a request that names one is
// rejected.
func (m *Manager) Restart(names []string) (control.Restarting, error) {
	m.opts.Lock.Lock()
	defer m.opts.Lock.Unlock()
	begun := control.Restarting{Servers: []string{}, Drained: []string{}, Unloaded: []string{}}
	if m.stopping {
		return begun, ErrStopping
	}
	servers, err := m.servers.Find(names)
	if err != nil {
		return begun, err
	}
	for _, s := range servers {
		if _, drained := m.Record().Of(s.Name); drained {
			begun.Drained = append(begun.Drained, s.Name)
		} else if s.Process.Snapshot().UnloadRequested {
			begun.Unloaded = append(begun.Unloaded, s.Name)
		} else if !s.Removed {
			begun.Servers = append(begun.Servers, s.Name)
		}
	}
	switch drained := begun.Drained; {
	case len(drained) == 0:
	case len(names) > 0 && len(drained) == 1:
		return begun, fmt.Errorf("%s is drained; llmsup resume %s starts it", drained[0], drained[0])
	case len(names) > 0:
		return begun, fmt.Errorf("%s are drained; llmsup resume %s starts them", strings.Join(drained, " and "), strings.Join(drained, " "))
	case len(begun.Servers)+len(begun.Unloaded) == 0:
		return begun, errors.New("the servers are drained; llmsup resume starts them")
	}
	for _, s := range servers {
		if slices.Contains(begun.Servers, s.Name) {
			s.Process.Restart()
		}
	}
	return begun, nil
}
