package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

const module = "github.com/llmsup/llmsup"

// source is one Go file, whatever its build constraints, as far as the rules
// of the house look into it.
type source struct {
	path      string // from the repository's root, with slashes
	pkg       string // of the package clause
	doc       string // the package's comment, if it stands in this file
	imports   []string
	lines     int
	generated bool
}

func (s source) dir() string  { return path.Dir(s.path) }
func (s source) test() bool   { return strings.HasSuffix(s.path, "_test.go") }
func (s source) wing() string { return wingOf(s.path) }

// wingOf returns the first component of a path.
func wingOf(p string) string {
	first, _, _ := strings.Cut(p, "/")
	return first
}

// readTree parses every Go file under root, but for those that go itself does
// not look at. It does not ask go list, which sees one platform's files only.
func readTree(root fs.FS) ([]source, error) {
	var tree []source
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			if name != "." && (base == "testdata" || base == "vendor" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		file, err := readSource(name, text)
		if err != nil {
			return err
		}
		tree = append(tree, file)
		return nil
	})
	return tree, err
}

func readSource(name string, text []byte) (source, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return source{}, fmt.Errorf("read %s: %w", name, err)
	}
	s := source{
		path: name, pkg: parsed.Name.Name, doc: parsed.Doc.Text(),
		lines: bytes.Count(text, []byte("\n")), generated: ast.IsGenerated(parsed),
	}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return source{}, fmt.Errorf("read %s: import %s: %w", name, spec.Path.Value, err)
		}
		s.imports = append(s.imports, imported)
	}
	return s, nil
}
