package supervisor

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/models"
)

// Engine is what has to be known about one kind of program that serves models, so
// that a Server can run it: how to start it, how to ask it for its condition, and
// what its output means. Package llamacpp implements it for llama-server, and package
// generic for any other program that speaks HTTP; cmd/internal/daemon chooses the Engine
// of each Server.
//
// An Engine is immutable and may be used from several goroutines. It decides
// nothing about a process's life: no method starts, stops or restarts a server.
type Engine interface {
	Describer

	// Command returns what to start for a Spec and what is known of its model, and where it
	// will listen. It may run
	// the program to find out what its build supports, until ctx ends. An error counts
	// as a failed start: one that wraps fs.ErrNotExist or fs.ErrPermission says that
	// the program is missing, a *process.CommandError that it cannot run.
	Command(ctx context.Context, spec Spec, of models.Description) (Command, error)

	// Probe returns the means to ask the process at an endpoint for its condition,
	// with connections of its own. What is known of its model decides what is asked. timeout bounds each question but a test call.
	Probe(at Endpoint, of models.Description, timeout time.Duration) Probe

	// Classify finds in the last lines of a process why it ended, and what an operator
	// can do. Where exit.Class is set, it adds only the advice. A process that has
	// Served may have printed what callers sent: only lines that callers cannot
	// forge may decide its class.
	Classify(exit Exit) Diagnosis

	// LogLine returns what llmsup's log may have of a line of output, and at which
	// level; ok is false if it may have nothing. serving says that the server was
	// taking calls: the line may then quote a prompt, which must never reach the log. A
	// line of which the log may have nothing before that, either, is about llmsup's own
	// probes: it is kept nowhere, and is no sign of progress.
	LogLine(line string, serving bool) (text string, level zerolog.Level, ok bool)
}

// Describer is what an Engine knows of its servers without a process. The router gets it.
type Describer interface {
	// Capabilities returns what a server that is started with these arguments of the
	// user's can do.
	Capabilities(args []string) models.Capabilities

	// Describe returns what the header of the model's file and the arguments of a Spec
	// show of the model. It reads the file, which may take long.
	Describe(spec Spec) (models.Description, error)
}

// Command is how to start one process.
type Command struct {
	Path     string
	Args     []string
	Env      []string // complete, as os/exec takes it
	Endpoint Endpoint // where the process will listen
	// Workers says that processes below the one that listens may compute and hold VRAM.
	Workers bool
	// SavesCaches says that the process can save its prompt caches into Spec.CacheFolder.
	SavesCaches bool
	// Stop is a command that ends what the program has started elsewhere, such as a
	// container; nil = there is nothing else than processes below it. It has Env, too.
	Stop []string

	token string // in the environment of the process and of all below it
}

// Probe asks one process for its condition. Its methods may be called from several
// goroutines.
type Probe interface {
	// Loaded returns nil if the model is loaded, ErrLoading if it is not yet, and
	// another error if the program does not answer.
	Loaded(context.Context) error
	// TestCall makes the smallest call that the model supports, such as for a completion of
	// one token or for an embedding, and returns nil if it was answered. Only ctx bounds it:
	// the first one after a load may have to warm up a GPU. An error that wraps
	// ErrServesNothing says that the program is well, and supports no call.
	TestCall(context.Context) error
	// Properties returns what the program reports about itself once it is loaded, and what
	// the test calls have shown.
	Properties(context.Context) (Properties, error)
	// Sample returns evidence of whether the program is alive.
	Sample(context.Context) Sample
	// BusySlots returns how many of its slots work on a call.
	BusySlots(context.Context) (int, error)
}

// ErrServesNothing is returned by Probe.TestCall if the program supports no kind of call.
var ErrServesNothing = errors.New("it supports no call")

// ErrNoAnswer is returned by Probe.Loaded if the program has accepted the question, and has not
// answered in time.
var ErrNoAnswer = errors.New("it does not answer in time")

// ErrLoading is returned by Probe.Loaded while the model is loading.
var ErrLoading = errors.New("the model is still loading")

// Properties is what a program reports about itself once its model is loaded. A
// value that it does not report is 0.
type Properties struct {
	Slots       int                // calls that it works on at the same time
	CtxSize     int                // tokens a slot
	Description models.Description // of the model; what it does not report stays as it was described before
}

// Sample is one reading of a running program's condition.
type Sample struct {
	HTTPAnswers   bool    // its HTTP server answers, and says that the model is loaded
	EngineAnswers bool    // the part that generates answers does, too
	Work          float64 // a sum of its own counters; it changes with every bit of work
	WorkKnown     bool    // it reported all of these counters
	Failure       string  // what it fails to answer, for a message; "" if it answers everything
	// Opaque says that the program has no counters: calls that last long without a byte
	// are no sign of a hang, and computing is work, also where it answers nothing meanwhile.
	Opaque bool

	CachedTokens  int     // in the prompt caches of its slots
	PromptTokens  float64 // of prompts that it has processed so far, and
	PromptSeconds float64 // how long that took; 0 = not reported
}

// Diagnosis is why a process ended.
type Diagnosis struct {
	Class  Class  // "" = no line of its output explains the end
	Cause  string // the line that explains it, or the last line about an error; may be ""
	Advice string // what an operator can do; may be ""
}
