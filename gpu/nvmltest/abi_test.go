package nvmltest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// realHeader is NVIDIA's nvml.h, as go-nvml was generated from it: the one
// beside go-nvml's code wraps the handles for cgo.
func realHeader(t *testing.T) string {
	t.Helper()
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/NVIDIA/go-nvml")
	var complaint strings.Builder
	list.Stderr = &complaint
	out, err := list.Output()
	if err != nil || len(strings.TrimSpace(string(out))) == 0 {
		t.Fatalf("find go-nvml (go mod download gets it): %v: %s", err, complaint.String())
	}
	return filepath.Join(strings.TrimSpace(string(out)), "gen", "nvml", "nvml.h")
}

// check compiles C sources with the real header, and discards the result.
func check(t *testing.T, header string, files ...string) string {
	t.Helper()
	args := []string{
		"-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fsyntax-only",
		"-DNVML_NO_UNVERSIONED_FUNC_DEFS", `-DNVML_HEADER="` + header + `"`,
	}
	out, err := exec.Command("gcc", append(args, files...)...).CombinedOutput()
	if err != nil {
		return err.Error() + "\n" + string(out)
	}
	return ""
}

// The compiler compares each function that the library defines with NVIDIA's declaration.
func TestPrototypes(t *testing.T) {
	files, err := filepath.Glob("lib/*.c")
	if err != nil || len(files) == 0 {
		t.Fatalf("the sources are %q (%v)", files, err)
	}
	header := realHeader(t)
	if complaint := check(t, header, files...); complaint != "" {
		t.Error(complaint)
	}
	if complaint := check(t, header, probe(t, "nvmlReturn_t nvmlDeviceGetCount_v2(int *count) { return *count; }")); !strings.Contains(complaint, "conflicting types") {
		t.Errorf("a wrong prototype gives %q", complaint)
	}
}

// The layouts in abi.h are checked against the real header.
func TestLayout(t *testing.T) {
	header := realHeader(t)
	assertions, err := exec.Command(gcc(t, "layout.c")).Output()
	if err != nil {
		t.Fatal(err)
	}
	if complaint := check(t, header, probe(t, string(assertions))); complaint != "" {
		t.Error(complaint)
	}
	const wrong = "_Static_assert(sizeof(nvmlMemory_t) == 32, \"size of nvmlMemory_t\");"
	if complaint := check(t, header, probe(t, string(assertions)+wrong)); !strings.Contains(complaint, "size of nvmlMemory_t") {
		t.Errorf("a wrong assertion gives %q", complaint)
	}
}

func probe(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "probe.c")
	if err := os.WriteFile(path, []byte("#include NVML_HEADER\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
