package archtest

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// maxReadme is how many lines README.md may have: it is the first page, and the
// reference is in the folders that own it.
const maxReadme = 150

func TestDocuments(t *testing.T) {
	tree := os.DirFS(root)
	broken, err := brokenLinks(tree)
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range broken {
		t.Error(link)
	}
	readme, err := fs.ReadFile(tree, "README.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(readme), "\n"); n > maxReadme {
		t.Errorf("README.md has %d lines, more than %d: move the reference to the README.md of the folder that owns it", n, maxReadme)
	}
}

func TestBrokenLinks(t *testing.T) {
	tree := fstest.MapFS{
		"README.md":       {Data: []byte("# A\n[one](gpu/README.md#does-it-fit) [two](gpu) [three](https://a.example) [four](#a)\n```\n[code](nowhere)\n```\n")},
		"gpu/README.md":   {Data: []byte("# The GPU\n\n## Does it *fit*?\n[up](../README.md) [no file](../go.mod) [no heading](../README.md#b)\n")},
		".git/README.md":  {Data: []byte("[x](y)")},
		".github/SEC.md":  {Data: []byte("[out](../../x)")},
		"gpu/testdata/.a": {Data: nil},
	}
	broken, err := brokenLinks(tree)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		".github/SEC.md: the link ../../x leads to no file",
		"gpu/README.md: the link ../go.mod leads to no file",
		"gpu/README.md: the link ../README.md#b leads to no heading",
	}
	if !slices.Equal(broken, want) {
		t.Errorf("broken links %q, want %q", broken, want)
	}
}

var (
	codeBlock    = regexp.MustCompile("(?ms)^```.*?^```")
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading      = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notInAnchor  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// brokenLinks returns a sentence for each relative link in the Markdown files of a tree
// that leads to no file, or to no heading of it.
func brokenLinks(tree fs.FS) (broken []string, err error) {
	err = fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if hidden := strings.HasPrefix(name, ".") && name != "."; entry.IsDir() && hidden && name != ".github" {
			return fs.SkipDir
		}
		if path.Ext(name) != ".md" {
			return nil
		}
		text, err := prose(tree, name)
		if err != nil {
			return err
		}
		for _, link := range markdownLink.FindAllStringSubmatch(text, -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			if what := missing(tree, name, link[1]); what != "" {
				broken = append(broken, fmt.Sprintf("%s: the link %s leads to no %s", name, link[1], what))
			}
		}
		return nil
	})
	return broken, err
}

// missing returns what a link of a file lacks: its file, its heading, or nothing.
func missing(tree fs.FS, from, link string) string {
	file, anchor, _ := strings.Cut(link, "#")
	target := from
	if file != "" {
		target = path.Join(path.Dir(from), file)
	}
	if _, err := fs.Stat(tree, target); err != nil {
		return "file"
	}
	if anchor == "" {
		return ""
	}
	text, err := prose(tree, target)
	if err != nil {
		return "file"
	}
	for _, h := range heading.FindAllStringSubmatch(text, -1) {
		words := notInAnchor.ReplaceAllString(strings.ToLower(h[1]), "")
		if strings.ReplaceAll(words, " ", "-") == anchor {
			return ""
		}
	}
	return "heading"
}

// prose returns a Markdown file without its blocks of code.
func prose(tree fs.FS, name string) (string, error) {
	text, err := fs.ReadFile(tree, name)
	return codeBlock.ReplaceAllString(string(text), ""), err
}
