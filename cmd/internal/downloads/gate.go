package downloads

import (
	"context"

	"github.com/llmsup/llmsup/supervisor"
)

// Gate is the GPU of a server whose model is downloaded: it admits a process once the model is
// there.
type Gate struct {
	supervisor.GPU
	Model interface{ State(ref string) State } // a *Manager
	Ref   string
	Path  string // with which the process is started; "" = not known when the server's Spec was made
}

// Admit implements supervisor.GPU.
func (g Gate) Admit(ctx context.Context) string {
	if g.Path == "" || !exists(g.Path) {
		return g.Model.State(g.Ref).Reason()
	}
	return g.GPU.Admit(ctx)
}
