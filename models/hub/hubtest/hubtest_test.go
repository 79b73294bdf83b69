package hubtest

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/llmsup/llmsup/models/demo"
	"github.com/llmsup/llmsup/models/gguf"
)

// TestSplit: the parts of a model describe the same model as the whole.
func TestSplit(t *testing.T) {
	var model bytes.Buffer
	if err := demo.Write(&model, demo.Small); err != nil {
		t.Fatal(err)
	}
	whole, err := gguf.Parse(bytes.NewReader(model.Bytes()), int64(model.Len()))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range Split(t, model.Bytes(), "demo-F32", 3) {
		if err := os.WriteFile(filepath.Join(dir, f.Path), f.Content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parts, err := gguf.Read(filepath.Join(dir, "demo-F32-00001-of-00003.gguf"))
	if err != nil || len(parts.Files) != 3 {
		t.Fatalf("%+v, %v", parts, err)
	}
	parts.Files = nil
	if !reflect.DeepEqual(parts, whole) {
		t.Errorf("%+v\nwant %+v", parts, whole)
	}
}
