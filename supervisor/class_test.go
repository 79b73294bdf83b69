package supervisor

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// TestClassify is about what an exit itself shows. What an engine's output shows is
// tested with the engine.
func TestClassify(t *testing.T) {
	var (
		noMemory = Diagnosis{Class: OutOfVRAM, Cause: "cudaMalloc failed", Advice: "free VRAM"}
		corrupt  = Diagnosis{Class: ModelCorrupt, Cause: "invalid magic", Advice: "download it again"}
		lastLine = Diagnosis{Cause: "something new"}
	)
	for name, tc := range map[string]struct {
		exit  Exit
		oom   bool
		found Diagnosis // by the engine
		want  Class
		text  string
	}{
		"the engine's diagnosis":   {Exit{Code: 1}, false, noMemory, OutOfVRAM, "exit status 1: cudaMalloc failed (free VRAM)"},
		"and by a signal":          {Exit{Code: -1, Signal: "SIGABRT"}, false, noMemory, OutOfVRAM, "ended by SIGABRT: cudaMalloc failed (free VRAM)"},
		"OOM killer":               {Exit{Code: -1, Signal: "SIGKILL"}, true, noMemory, OutOfRAM, "ended by SIGKILL: the kernel killed it because memory ran out (free VRAM)"},
		"OOM killer, in a shell":   {Exit{Code: 137}, true, Diagnosis{}, OutOfRAM, "exit status 137: the kernel killed it because memory ran out"},
		"kill -9":                  {Exit{Code: -1, Signal: "SIGKILL"}, false, Diagnosis{}, Killed, "ended by SIGKILL"},
		"crash":                    {Exit{Code: -1, Signal: "SIGSEGV"}, true, lastLine, Killed, "ended by SIGSEGV"},
		"other CPU":                {Exit{Code: -1, Signal: "SIGILL"}, false, Diagnosis{}, IllegalInstruction, "ended by SIGILL: the program was built for another CPU"},
		"clean":                    {Exit{Code: 0}, false, lastLine, Clean, "exit status 0"},
		"unexplained":              {Exit{Code: 3}, false, lastLine, Unknown, "exit status 3: something new"},
		"no output":                {Exit{Code: 1}, false, Diagnosis{}, Unknown, "exit status 1"},
		"llmsup's verdict":         {Exit{Code: -1, Signal: "SIGKILL", Class: Hung, Cause: "no sign of life"}, true, Diagnosis{}, Hung, "ended by SIGKILL: no sign of life"},
		"never started":            {Exit{Code: -1, Class: MissingBinary, Cause: "start x: no such file"}, false, Diagnosis{}, MissingBinary, "it could not be started: start x: no such file"},
		"served, and not for good": {Exit{Code: 1, Served: true}, false, corrupt, Unknown, "exit status 1"},
		"served, repeats no line":  {Exit{Code: -1, Signal: "SIGABRT", Served: true}, false, noMemory, OutOfVRAM, "ended by SIGABRT (free VRAM)"},
	} {
		t.Run(name, func(t *testing.T) {
			d := classify(fakeEngine{diagnosis: tc.found}, tc.exit, tc.oom)
			if d.Class != tc.want {
				t.Errorf("class %s, want %s", d.Class, tc.want)
			}
			if got := describe(tc.exit, d); got != tc.text || strings.Contains(got, "\n") {
				t.Errorf("text %q, want %q", got, tc.text)
			}
		})
	}
}

// TestClassesIsComplete: a class that is not in the list is in no metric.
func TestClassesIsComplete(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "class.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	constants := 0
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if of, ok := spec.Type.(*ast.Ident); ok && of.Name == "Class" {
				constants += len(spec.Names)
			}
		}
		return true
	})
	if len(slices.Compact(slices.Sorted(slices.Values(Classes)))) != constants || constants == 0 {
		t.Errorf("%d constants, and the list has %v", constants, Classes)
	}
	if len(States) != len(stateNames) {
		t.Errorf("%d states, and the list has %v", len(stateNames), States)
	}
}
