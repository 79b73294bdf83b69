package gpu

import (
	"fmt"
	"slices"
	"time"
)

// observe returns what a sample shows of each condition. A condition of which the sample
// shows nothing is left out.
func (p Policy) observe(h History, s *Sample, server Server) map[conditionKey]observation {
	observations := map[conditionKey]observation{}
	if s.Problem == "" {
		for _, g := range s.pick(server.GPUs) {
			for reason, o := range p.observeGPU(g, h.gpus[g.UUID], server) {
				if o != nil {
					observations[conditionKey{reason, g.UUID}] = *o
				}
			}
		}
		if o := onCPU(s, server); o != nil {
			observations[conditionKey{OnCPU, ""}] = *o
		}
	}
	if o := contextReduced(server); o != nil {
		observations[conditionKey{ContextReduced, ""}] = *o
	}
	return observations
}

func (p Policy) observeGPU(g GPU, b baseline, server Server) map[Reason]*observation {
	if g.Lost { // the driver reports nothing else of it
		return map[Reason]*observation{Lost: {bad: true, fatal: true, message: fmt.Sprintf("GPU %d (%s) is lost: look for NVRM in dmesg, then reset it (nvidia-smi -r) or reboot", g.Index, g.Name)}}
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
	o := &observation{}
	for _, id := range g.Xids {
		if fatal := !survivableXids[id]; !applicationXids[id] && (!o.bad || fatal && !o.fatal) {
			*o = observation{bad: true, fatal: fatal, message: fmt.Sprintf("GPU %d reported Xid %d%s: look for NVRM in dmesg", g.Index, id, xidName(id))}
		}
	}
	return o
}

func ecc(g GPU, b baseline) *observation {
	if g.ECCUncorrected == nil || b.ecc == nil {
		return nil
	}
	if *g.ECCUncorrected <= *b.ecc {
		return &observation{}
	}
	return &observation{bad: true, message: fmt.Sprintf("GPU %d had %d uncorrectable memory errors since the server started: llmsup restart makes it use other memory; if they recur, replace the card",
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
		why = "because of heat"
	case *g.Slowdown&HardwarePowerBrake != 0:
		why = "because the power supply requested it"
	}
	at := ""
	if g.Temperature != nil {
		at = fmt.Sprintf(" at %d C", *g.Temperature)
	}
	return &observation{bad: true, message: fmt.Sprintf("GPU %d has slowed down %s%s: check the fans, the airflow and the power supply", g.Index, why, at)}
}

// jitter is by how many bytes the VRAM of other processes varies all the time, as a
// desktop's does.
const jitter = 16 << 20

// vramPressure means that other processes grew until almost no VRAM was free. VRAM that
// the server itself takes does not count.
func (p Policy) vramPressure(g GPU, b baseline, server Server) *observation {
	foreign := g.foreignBytes(server)
	if !server.Loaded || g.MemoryFree == nil || foreign == nil || b.foreign == nil {
		return nil
	}
	if *g.MemoryFree >= p.VRAMFloor || *foreign <= *b.foreign+jitter {
		return &observation{}
	}
	if *g.MemoryFree+(*foreign-*b.foreign) < p.VRAMFloor { // too little would be free without their growth, too
		return &observation{}
	}
	return &observation{bad: true, message: fmt.Sprintf("GPU %d has %s of VRAM free, and other processes hold %s more than before%s: stop them, or move them to another GPU",
		g.Index, Size(*g.MemoryFree), Size(*foreign-*b.foreign), inBrackets([]GPU{g}, server.ownPIDs()))}
}

func (p Policy) busyElsewhere(g GPU, b baseline, server Server) *observation {
	if !server.Loaded || g.Utilization == nil || server.Calls > 0 || server.SiblingsBusy { // the work may be llmsup's
		return nil
	}
	if *g.Utilization < p.BusyPercent {
		return &observation{}
	}
	return &observation{bad: true, early: b.busy < p.BusyFor, message: fmt.Sprintf("GPU %d has been %d %% busy for %s without a call from llmsup%s",
		g.Index, *g.Utilization, b.busy.Round(time.Second), inBrackets([]GPU{g}, server.ownPIDs()))}
}

// onCPUFloor is the least size of a model, in bytes of weights, for which it matters that
// its process is in no GPU's list.
const onCPUFloor = 256 << 20

// onCPU means that a server's process holds less VRAM than the weights that should be
// there. In a container the driver may list the process under another PID; a process that
// has no GPU's device file open is in no list.
func onCPU(s *Sample, server Server) *observation {
	gpus := s.pick(server.GPUs)
	if !server.Loaded || server.Weights == 0 || len(gpus) == 0 || len(gpus) < len(server.GPUs) {
		return nil // MIG instances are not read
	}
	var held uint64
	listed := false
	for _, g := range gpus {
		bytes, found, known := g.memoryOf(server.PIDs)
		if !known {
			return nil
		}
		held += bytes
		listed = listed || found
	}
	switch {
	case listed && held >= server.Weights:
		return &observation{}
	case !listed && (server.DeviceOpen || server.Weights < onCPUFloor):
		return nil
	}
	return &observation{bad: true, message: fmt.Sprintf("llama-server holds %s of VRAM, but its weights are %s: it computes on the CPU; check llmsup logs, and that this llama-server is built for the GPU",
		Size(held), Size(server.Weights))}
}

func contextReduced(server Server) *observation {
	if !server.Loaded || server.ActualContext == 0 {
		return nil
	}
	if server.ActualContext >= server.RequestedContext {
		return &observation{}
	}
	return &observation{bad: true, message: fmt.Sprintf("llama-server has %d tokens of context instead of the %d requested: free VRAM, or lower --ctx-size", server.ActualContext, server.RequestedContext)}
}

// foreignBytes returns how much of a GPU's memory is held by other processes than
// llmsup's servers, in bytes; nil = unknown, since one of the servers may be in the list
// under another PID.
func (g *GPU) foreignBytes(server Server) *uint64 {
	ours, _, known := g.memoryOf(server.ownPIDs())
	_, listed, _ := g.memoryOf(server.PIDs)
	if g.MemoryUsed == nil || g.Inconsistent || !known || !listed && server.DeviceOpen {
		return nil
	}
	foreign := *g.MemoryUsed - min(ours, *g.MemoryUsed)
	return &foreign
}

// ownPIDs returns the processes of the server and of its siblings.
func (s *Server) ownPIDs() []int { return append(slices.Clone(s.PIDs), s.SiblingPIDs...) }
