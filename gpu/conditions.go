package gpu

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// observe is what a sample says of each matter. A matter that it says nothing of
// is not among them.
func (p Policy) observe(h History, s *Sample, server Server) map[conditionKey]observation {
	votes := map[conditionKey]observation{}
	if s.Problem == "" {
		for _, g := range s.pick(server.GPUs) {
			for reason, v := range p.observeGPU(g, h.gpus[g.UUID], server) {
				if v != nil {
					votes[conditionKey{reason, g.UUID}] = *v
				}
			}
		}
		if v := onCPU(s, server); v != nil {
			votes[conditionKey{OnCPU, ""}] = *v
		}
	}
	if v := contextReduced(server); v != nil {
		votes[conditionKey{ContextReduced, ""}] = *v
	}
	return votes
}

func (p Policy) observeGPU(g GPU, b baseline, server Server) map[Reason]*observation {
	if g.Lost { // it tells nothing else
		return map[Reason]*observation{Lost: {bad: true, fatal: true, message: fmt.Sprintf("GPU %d (%s) is lost: look for NVRM in dmesg; it takes a reset (nvidia-smi -r) or a reboot", g.Index, g.Name)}}
	}
	return map[Reason]*observation{
		Lost:          {},
		Xid:           xid(g),
		ECC:           ecc(g, b),
		Thermal:       thermal(g),
		VRAMPressure:  p.vramPressure(g, b, server),
		BusyElsewhere: p.busyElsewhere(g, b, server),
	}
}

func xid(g GPU) *observation {
	v := &observation{}
	for _, id := range g.Xids {
		if fatal := !survivableXids[id]; !applicationXids[id] && (!v.bad || fatal && !v.fatal) {
			*v = observation{bad: true, fatal: fatal, message: fmt.Sprintf("GPU %d reported Xid %d%s: look for NVRM in dmesg", g.Index, id, xidName(id))}
		}
	}
	return v
}

func ecc(g GPU, b baseline) *observation {
	if g.ECCUncorrected == nil || b.ecc == nil {
		return nil
	}
	if *g.ECCUncorrected <= *b.ecc {
		return &observation{}
	}
	return &observation{bad: true, message: fmt.Sprintf("GPU %d had %d memory errors that could not be corrected since the server was started: llmsup restart has it use other memory; if they come again, replace the card",
		g.Index, *g.ECCUncorrected-*b.ecc)}
}

func thermal(g GPU) *observation {
	if g.Slowdown == nil {
		return nil
	}
	if *g.Slowdown&protecting == 0 {
		return &observation{}
	}
	why := "to protect itself"
	switch {
	case *g.Slowdown&(HardwareThermal|SoftwareThermal) != 0:
		why = "because of its heat"
	case *g.Slowdown&HardwarePowerBrake != 0:
		why = "because its power supply asked for it"
	}
	at := ""
	if g.Temperature != nil {
		at = fmt.Sprintf(" at %d C", *g.Temperature)
	}
	return &observation{bad: true, message: fmt.Sprintf("GPU %d has slowed down %s%s: check fans, air flow and power", g.Index, why, at)}
}

// jitter is by how much others' VRAM goes up and down without a meaning, in
// bytes: a desktop's does all the time.
const jitter = 16 << 20

// vramPressure is that others grew until next to nothing was left. What the server
// itself takes is not held against it.
func (p Policy) vramPressure(g GPU, b baseline, server Server) *observation {
	others := g.foreignBytes(server)
	if !server.Loaded || g.MemoryFree == nil || others == nil || b.foreign == nil {
		return nil
	}
	if *g.MemoryFree >= p.VRAMFloor || *others <= *b.foreign+jitter {
		return &observation{}
	}
	if *g.MemoryFree+(*others-*b.foreign) < p.VRAMFloor { // it would be short without their growth as well
		return &observation{}
	}
	return &observation{bad: true, message: fmt.Sprintf("GPU %d has %s of VRAM free, and others hold %s more than they did%s: end them, or move them to another GPU",
		g.Index, Size(*g.MemoryFree), Size(*others-*b.foreign), inBrackets([]GPU{g}, server.ownPIDs()))}
}

func (p Policy) busyElsewhere(g GPU, b baseline, server Server) *observation {
	if !server.Loaded || g.Utilization == nil || server.Calls > 0 || server.SiblingsBusy { // nobody can tell whose work it is
		return nil
	}
	if *g.Utilization < p.BusyPercent {
		return &observation{}
	}
	return &observation{bad: true, early: b.busy < p.BusyFor, message: fmt.Sprintf("GPU %d has been %d %% busy for %s without a call of ours%s",
		g.Index, *g.Utilization, b.busy.Round(time.Second), inBrackets([]GPU{g}, server.ownPIDs()))}
}

// onCPUFloor is below how many bytes of weights it is not worth a word that a
// model that is in no GPU's list is computed on the CPU.
const onCPUFloor = 256 << 20

// onCPU is that a server's process holds less VRAM than the weights that it was
// told to keep there. A process that is not in the driver's list at all may be
// there under another number (in a container), unless it has no GPU open.
func onCPU(s *Sample, server Server) *observation {
	gpus := s.pick(server.GPUs)
	if !server.Loaded || server.Weights == 0 || len(gpus) == 0 || len(gpus) < len(server.GPUs) {
		return nil // of a MIG instance nothing is read
	}
	var held uint64
	listed := false
	for _, g := range gpus {
		here, inList, known := g.memoryOf(server.PIDs)
		if !known {
			return nil
		}
		held += here
		listed = listed || inList
	}
	switch {
	case listed && held >= server.Weights:
		return &observation{}
	case !listed && (server.DeviceOpen || server.Weights < onCPUFloor):
		return nil
	}
	return &observation{bad: true, message: fmt.Sprintf("it holds %s of VRAM, and its weights are %s: it computes on the CPU; see llmsup logs for why, and whether this llama-server is built for the GPU",
		Size(held), Size(server.Weights))}
}

func contextReduced(server Server) *observation {
	if !server.Loaded || server.ActualContext == 0 {
		return nil
	}
	if server.ActualContext >= server.RequestedContext {
		return &observation{}
	}
	return &observation{bad: true, message: fmt.Sprintf("it has %d tokens of context and not the %d asked for: free VRAM, or lower --ctx-size", server.ActualContext, server.RequestedContext)}
}

// foreignBytes is what everybody but our servers holds of a GPU, in bytes; nil =
// nobody can tell, since one of ours may be in the list under another number.
func (g *GPU) foreignBytes(server Server) *uint64 {
	ours, _, known := g.memoryOf(server.ownPIDs())
	_, listed, _ := g.memoryOf(server.PIDs)
	if g.MemoryUsed == nil || g.Inconsistent || !known || !listed && server.DeviceOpen {
		return nil
	}
	rest := *g.MemoryUsed - min(ours, *g.MemoryUsed)
	return &rest
}

// ownPIDs are the processes of ours.
func (s *Server) ownPIDs() []int { return append(slices.Clone(s.PIDs), s.SiblingPIDs...) }

// inBrackets is Holders in brackets; "" where the driver shows none.
func inBrackets(gpus []GPU, ours []int) string {
	if words := MemoryHolders(gpus, ours); words != "" {
		return " (" + words + ")"
	}
	return ""
}

// MemoryHolders names the processes that hold most of some GPUs' memory, but for ours:
// "pid 4211 python 16.1 GiB, pid 5 Xorg 180 MiB".
func MemoryHolders(gpus []GPU, ours []int) string {
	const most = 3
	sums, programs := map[int]uint64{}, map[int]string{}
	for _, g := range gpus {
		for _, p := range g.Processes {
			if p.Memory != nil && !slices.Contains(ours, p.PID) {
				sums[p.PID] += *p.Memory
				programs[p.PID] = p.Program
			}
		}
	}
	pids := slices.SortedFunc(maps.Keys(sums), func(a, b int) int {
		return cmp.Or(cmp.Compare(sums[b], sums[a]), cmp.Compare(a, b))
	})
	var words []string
	for _, pid := range pids[:min(len(pids), most)] {
		words = append(words, strings.Join(strings.Fields(fmt.Sprintf("pid %d %s %s", pid, programs[pid], Size(sums[pid]))), " "))
	}
	if more := len(pids) - most; more > 0 {
		words = append(words, fmt.Sprintf("%d more", more))
	}
	return strings.Join(words, ", ")
}
