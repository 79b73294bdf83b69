package supervisor

import "fmt"

// Class is why a process ended. It decides whether another start can succeed, and
// tells an operator where to look. Its values are part of the contract with users:
// status, log and metrics have them.
type Class string

// The classes of an exit.
const (
	MissingBinary      Class = "missing_binary"      // the program, or a library of it, is missing
	BadFlag            Class = "bad_flag"            // this build does not know a flag, or rejects its value
	ModelMissing       Class = "model_missing"       // the model's file is missing or cannot be read
	ModelCorrupt       Class = "model_corrupt"       // the file is not a complete model that this build knows
	OutOfVRAM          Class = "out_of_vram"         // the GPU does not have enough free memory
	OutOfRAM           Class = "out_of_ram"          // the machine does not, or the kernel killed the process for memory
	PortTaken          Class = "port_taken"          // another process listens on its address
	IllegalInstruction Class = "illegal_instruction" // the program was built for another CPU
	DriverError        Class = "driver_error"        // CUDA, ROCm, Vulkan or the driver below failed
	Stalled            Class = "stalled"             // ended by llmsup: it made no progress in loading
	Hung               Class = "wedged"              // ended by llmsup: it showed no sign of life
	GPUFailed          Class = "gpu_failed"          // ended by llmsup: its GPU is lost, or reported a fatal error
	Replaced           Class = "replaced"            // ended by llmsup: an operator or a reload asked for it
	Killed             Class = "signal"              // by a signal that llmsup did not send, or its own crash
	Clean              Class = "clean"               // it exited with 0 although it should run
	Unknown            Class = "unknown"             // an exit status that no line of its output explains
)

// Classes lists all classes, in that order.
var Classes = []Class{
	MissingBinary, BadFlag, ModelMissing, ModelCorrupt, OutOfVRAM, OutOfRAM, PortTaken, IllegalInstruction, DriverError,
	Stalled, Hung, GPUFailed, Replaced, Killed, Clean, Unknown,
}

// Permanent reports whether the next start fails in the same way unless a file or
// the configuration is changed.
func (c Class) Permanent() bool {
	switch c {
	case MissingBinary, BadFlag, ModelMissing, ModelCorrupt, IllegalInstruction:
		return true
	default:
		return false
	}
}

// killedInShell is the exit status of a shell whose child was ended by SIGKILL.
const killedInShell = 137

// classify finds out why a process ended: from its signal, its exit status, its
// last lines, and whether the kernel has killed a process for memory meanwhile.
//
// The output of a process that has served may quote callers. It can therefore
// not make the server fail for good, and is not repeated.
func classify(engine Engine, e Exit, oomKilled bool) Diagnosis {
	switch {
	case e.Class != "": // llmsup ended it, and knows why
	case (e.Signal == "SIGKILL" || e.Code == killedInShell) && oomKilled:
		e.Class, e.Cause = OutOfRAM, "the kernel killed it because memory ran out"
	case e.Signal == "SIGILL":
		e.Class, e.Cause = IllegalInstruction, "the program was built for another CPU"
	}
	d := engine.Classify(e)
	if e.Class != "" {
		return Diagnosis{Class: e.Class, Cause: e.Cause, Advice: d.Advice}
	}
	if e.Served {
		d.Cause = ""
		if d.Class.Permanent() {
			d.Class = ""
		}
	}
	switch {
	case d.Class != "":
		return d
	case e.Signal != "":
		return Diagnosis{Class: Killed}
	case e.Code == 0:
		return Diagnosis{Class: Clean}
	}
	return Diagnosis{Class: Unknown, Cause: d.Cause}
}

// describe puts an exit into one line: how the process ended, why, and what to do.
func describe(e Exit, d Diagnosis) string {
	how := fmt.Sprintf("exit status %d", e.Code)
	switch {
	case e.Signal != "":
		how = "ended by " + e.Signal
	case e.Code < 0:
		how = "it could not be started"
	}
	if d.Cause != "" {
		how += ": " + d.Cause
	}
	if d.Advice != "" {
		how += " (" + d.Advice + ")"
	}
	return how
}
