package archtest

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

// source is what the rules need of one Go file, whatever its build constraints.
type source struct {
	path       string // from the repository's root, with slashes
	pkg        string // of the package clause
	doc        string // the package's doc comment, if this file has it
	imports    []string
	interfaces []iface
	literals   []string // the values of its string literals
	lines      int
	generated  bool
}

// iface is an interface type with a name.
type iface struct {
	name    string
	methods int // without those of interfaces that it embeds
}

func (s source) dir() string { return path.Dir(s.path) }
func (s source) test() bool  { return strings.HasSuffix(s.path, "_test.go") }

// topOf returns the first component of a path.
func topOf(p string) string {
	first, _, _ := strings.Cut(p, "/")
	return first
}

// readTree parses every Go file under root, except those that the go command
// ignores. It does not use go list, which lists one platform's files only.
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
	parsed, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution|parser.ParseComments)
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
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.TypeSpec:
			if typ, ok := n.Type.(*ast.InterfaceType); ok {
				s.interfaces = append(s.interfaces, iface{n.Name.Name, countMethods(typ)})
			}
		case *ast.BasicLit:
			if value, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
				s.literals = append(s.literals, value)
			}
		}
		return true
	})
	return s, nil
}

func countMethods(typ *ast.InterfaceType) int {
	methods := 0
	for _, element := range typ.Methods.List {
		methods += len(element.Names) // an embedded element has none
	}
	return methods
}
