package archtest

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

var update = flag.Bool("update", false, "rewrite the picture in .github/ARCHITECTURE.md")

// picturePattern matches the picture in .github/ARCHITECTURE.md.
var picturePattern = regexp.MustCompile("(?s)```mermaid\n.*?```\n")

// TestPicture checks that the picture in .github/ARCHITECTURE.md shows the packages and
// the imports of the code.
func TestPicture(t *testing.T) {
	tree, err := readTree(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, ".github", "ARCHITECTURE.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := picture(tree)
	if *update {
		text = picturePattern.ReplaceAllLiteral(text, []byte(want))
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, difference := range compareLines(string(picturePattern.Find(text)), want) {
		t.Errorf(".github/ARCHITECTURE.md %s", difference)
	}
	if t.Failed() {
		t.Error("rewrite the picture with go test ./cmd/internal/archtest -run TestPicture -update")
	}
}

// picture returns the packages of a tree and their imports as a Mermaid diagram, without
// tests, test fixtures and tools.
func picture(tree []source) string {
	packages := map[string]map[string]bool{} // the imports of each package
	for _, s := range tree {
		if s.test() || slices.Contains(testPackages, s.dir()) {
			continue
		}
		if packages[s.dir()] == nil {
			packages[s.dir()] = map[string]bool{}
		}
		for _, imported := range s.imports {
			if inside, ours := strings.CutPrefix(imported, module+"/"); ours {
				packages[s.dir()][inside] = true
			}
		}
	}
	id := func(dir string) string { return strings.NewReplacer("/", "_", "-", "_").Replace(dir) }
	var nodes, edges strings.Builder
	folder := ""
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		if top := topOf(dir); top != folder {
			if folder != "" {
				nodes.WriteString("    end\n")
			}
			folder = top
			fmt.Fprintf(&nodes, "    subgraph %s_folder [%s]\n", folder, folder)
		}
		fmt.Fprintf(&nodes, "        %s[%q]\n", id(dir), dir)
		for _, imported := range slices.Sorted(maps.Keys(packages[dir])) {
			fmt.Fprintf(&edges, "    %s --> %s\n", id(dir), id(imported))
		}
	}
	if folder != "" {
		nodes.WriteString("    end\n")
	}
	return "```mermaid\ngraph TD\n" + nodes.String() + edges.String() + "```\n"
}

// compareLines returns a sentence for each line of the picture that is wrong or missing.
func compareLines(got, want string) (differences []string) {
	has, needs := strings.Split(got, "\n"), strings.Split(want, "\n")
	for _, line := range has {
		if !slices.Contains(needs, line) {
			differences = append(differences, fmt.Sprintf("has %q, which the code does not", strings.TrimSpace(line)))
		}
	}
	for _, line := range needs {
		if !slices.Contains(has, line) {
			differences = append(differences, fmt.Sprintf("lacks %q, which the code has", strings.TrimSpace(line)))
		}
	}
	return differences
}

func TestPictureOfATree(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	tree, err := readTree(fstest.MapFS{
		"gpu/a.go":             file("package gpu"),
		"gpu/a_test.go":        file("package gpu\n\nimport _ \"" + module + "/models\"\n"),
		"gpu/nvmltest/a.go":    file("package nvmltest"),
		"router/a.go":          file("package router\n\nimport (\n\t_ \"fmt\"\n\t_ \"" + module + "/router/wire\"\n)\n"),
		"router/wire/a.go":     file("package wire"),
		"cmd/internal/x/a.go":  file("package x\n\nimport _ \"" + module + "/gpu\"\n"),
		"cmd/internal/x/b.go":  file("package x\n\nimport _ \"" + module + "/gpu\"\n"),
		"models/testdata/a.go": file("not Go"),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "```mermaid\ngraph TD\n" +
		"    subgraph cmd_folder [cmd]\n        cmd_internal_x[\"cmd/internal/x\"]\n    end\n" +
		"    subgraph gpu_folder [gpu]\n        gpu[\"gpu\"]\n    end\n" +
		"    subgraph router_folder [router]\n        router[\"router\"]\n        router_wire[\"router/wire\"]\n    end\n" +
		"    cmd_internal_x --> gpu\n    router --> router_wire\n```\n"
	if got := picture(tree); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := compareLines(strings.Replace(want, "router --> router_wire", "router --> gpu", 1), want); len(got) != 2 ||
		got[0] != `has "router --> gpu", which the code does not` || got[1] != `lacks "router --> router_wire", which the code has` {
		t.Errorf("%q", got)
	}
}
