package request

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/router/spool"
)

const formType = "multipart/form-data; boundary=b"

// formOf returns a form with a file of this size, before and after which its other fields are.
func formOf(size int, before, after string) string {
	const field = "--b\r\nContent-Disposition: form-data; name="
	write := func(fields string) (text string) {
		for f := range strings.FieldsSeq(fields) {
			name, value, _ := strings.Cut(f, "=")
			text += field + name + "\r\n\r\n" + value + "\r\n"
		}
		return text
	}
	// Beginnings of the boundary are everywhere, so that some are at the end of what is read at once.
	file := strings.Repeat("\r\n--a\r\n-", size/8+1)[:size]
	return write(before) + field + "file; filename=a.wav\r\n\r\n" + file + "\r\n" + write(after) + "--b--\r\n"
}

// TestReadForm: a form is the same in memory and in a file, wherever its model is, and can be
// sent several times.
func TestReadForm(t *testing.T) {
	h := http.Header{"Content-Type": {formType}}
	for name, tc := range map[string]struct {
		size          int // of the file
		before, after string
		inFile        bool
	}{
		"small, model first":   {10, "model=local n=2", "stream=true", false},
		"model last":           {MaxFormInMemory - 300, "n=2", "stream=true model=local", false},
		"large, model first":   {MaxFormInMemory, "model=local n=2 stream=true", "", true},
		"large, model last":    {2*MaxFormInMemory + 7, "", "n=2 stream=true model=local", true},
		"large, without model": {2 * MaxFormInMemory, "n=2", "stream=true", true},
	} {
		text := formOf(tc.size, tc.before, tc.after)
		for _, length := range []int64{int64(len(text)), -1} {
			b, err := ReadForm(strings.NewReader(text), length, t.TempDir())
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			body, err := b.ParseForm(h)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			body.Buffer = b
			want := strings.Replace(text, "\r\nlocal\r\n", "\r\nother\r\n", 1)
			if body.AddModel = body.To == 0; body.AddModel {
				want = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nother\r\n" + text
			}
			if body.isInFile() != tc.inFile || body.Size() != int64(len(text)) || body.Count != 2 || !body.Stream || !body.AddModel && body.Model != "local" {
				t.Errorf("%s: in a file %t, %d bytes of %d, %q, n %d, stream %t", name, body.isInFile(), body.Size(), len(text), body.Model, body.Count, body.Stream)
			}
			if same := read(t, body.WithModel(body.Model)); !body.AddModel && same != text {
				t.Errorf("%s: the body changed", name)
			}
			payload := body.WithModel("other")
			first := payload.Open()
			begin := make([]byte, 100)
			if _, err := io.ReadFull(first, begin); err != nil || payload.Size() != len(want) || string(begin) != want[:100] {
				t.Errorf("%s: %q, %v, %d bytes", name, begin, err, payload.Size())
			}
			if got := read(t, payload); got != want { // while the first is still open
				t.Errorf("%s: %d bytes, want %d", name, len(got), len(want))
			}
			b.Release()
			if rest, err := io.ReadAll(first); err != nil || string(begin)+string(rest) != want { // the call has ended
				t.Errorf("%s: after the call's end: %d bytes, %v", name, len(rest), err)
			}
			_ = AsBody(first).Close()
			if tc.inFile {
				if n, err := first.Read(begin); n != 0 || !errors.Is(err, io.EOF) {
					t.Errorf("%s: a closed reader reads %d bytes, %v", name, n, err)
				}
				if _, err := io.ReadAll(b.file.Section(0, 1)); !errors.Is(err, os.ErrClosed) {
					t.Errorf("%s: the file is still open: %v", name, err)
				}
			}
		}
	}
}

// read reads a payload to its end.
func read(t *testing.T, p Payload) string {
	t.Helper()
	r := AsBody(p.Open())
	defer r.Close()
	sized, ok := r.(interface{ Len() int })
	if ok && sized.Len() != p.Size() {
		t.Errorf("%d bytes are left, want %d", sized.Len(), p.Size())
	}
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestReadFormErrors(t *testing.T) {
	if _, err := ReadForm(strings.NewReader(formOf(MaxFormInMemory, "", "")), -1, t.TempDir()+"/missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	if _, err := ReadForm(strings.NewReader(""), 1<<50, t.TempDir()); !errors.Is(err, spool.ErrNoSpace) {
		t.Errorf("too large for the disk: %v", err)
	}
	broken := io.MultiReader(strings.NewReader(formOf(MaxFormInMemory, "", "")), brokenReader{})
	if _, err := ReadForm(broken, -1, t.TempDir()); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a broken connection: %v", err)
	}
	for name, text := range map[string]string{
		"cut in a file":        formOf(MaxFormInMemory, "model=local", "")[:MaxFormInMemory],
		"a model of 100 KB":    formOf(MaxFormInMemory, "model="+strings.Repeat("x", 100_000), ""),
		"headers of 100 KB":    formOf(10, "model;x="+strings.Repeat("x", 100_000)+"=local", ""),
		"two models, far away": formOf(MaxFormInMemory, "model=local", "model=other"),
	} {
		b, err := ReadForm(strings.NewReader(text), -1, t.TempDir())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := b.ParseForm(http.Header{"Content-Type": {formType}}); err == nil {
			t.Errorf("%s: read as %+v", name, got)
		}
		b.Release()
	}
}

// brokenReader is a connection that has broken.
type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }
