package fit

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/gguf"
	"github.com/llmsup/llmsup/models/hub"
	"github.com/llmsup/llmsup/models/hub/hubtest"
	"github.com/llmsup/llmsup/models/vram"
)

const mib = 1 << 20

var run = vram.Run{CtxSize: 8192, GPULayers: 99}

// uses returns one use, of a box.
func uses(b Box) []Use { return []Use{{run, b}} }

// files are a repository's: three quantisations of one model.
func files(arch string) []hubtest.File {
	return []hubtest.File{
		{Path: "a-model-F16.gguf", Content: model(arch, f16)}, {Path: "a-model-Q8_0.gguf", Content: model(arch, q8_0)}, {Path: "a-model-Q4_0.gguf", Content: model(arch, q4_0)},
	}
}

// list returns what a hub has of a reference.
func list(t *testing.T, h *hubtest.Hub, ref string) (*hub.Client, hub.Listing) {
	t.Helper()
	r, err := hub.ParseRef(ref)
	if err != nil {
		t.Fatal(err)
	}
	client := &hub.Client{Endpoint: h.URL}
	l, err := client.List(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return client, l
}

// needOf returns the need of a model with a context.
func needOf(t *testing.T, q quantisation, ctx int) uint64 {
	t.Helper()
	content := model("llama", q)
	h, err := gguf.Parse(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	return vram.Estimate(h, vram.Run{CtxSize: ctx, GPULayers: 99}).Total()
}

// TestRemote: the figures of a repository are those of its files, of which only the headers are
// read: the tokenizer once, and no weights.
func TestRemote(t *testing.T) {
	h := hubtest.Start(t, hubtest.Repo{Name: "org/repo", Files: files("llama")})
	client, l := list(t, h, "hf:org/repo")
	usable := needOf(t, q8_0, 8192)
	got, err := Remote(t.Context(), client, l, uses(Imagined([]uint64{usable})))
	if err != nil {
		t.Fatal(err)
	}
	const tokenizer = 16 * testTokens
	if served := h.Served(); served < tokenizer || served > 2*tokenizer {
		t.Errorf("the hub sent %d bytes of three files with a tokenizer of %d each", served, tokenizer)
	}
	if got.Model != "hf:org/repo" || got.Name != "A model" || got.Architecture != "llama" || *got.Context != 32768 || got.CtxSize != 8192 || len(got.Variants) != 3 {
		t.Fatalf("got %+v", got)
	}
	for i, q := range []quantisation{q4_0, q8_0, f16} {
		v := got.Variants[i]
		name := []string{"Q4_0", "Q8_0", "F16"}[i]
		fits := []string{control.FitsNow, control.FitsNow, control.FitsNot}[i]
		if v.Name != name || v.Quantization != name || v.Fits != fits || *v.NeedBytes != needOf(t, q, 8192) || *v.SizeBytes != uint64(len(model("llama", q))) {
			t.Errorf("%+v", v)
		}
		if sum := *v.WeightsBytes + *v.CacheBytes + *v.BuffersBytes + *v.DriverBytes; sum != *v.NeedBytes {
			t.Errorf("%s: the parts are %d, and the sum is %d", name, sum, *v.NeedBytes)
		}
		if ctx := *v.LargestContext; ctx > 0 && needOf(t, q, ctx) > usable {
			t.Errorf("%s: %d tokens do not fit", name, ctx)
		}
	}
	if got.Choice != "Q8_0" || !strings.Contains(got.ChoiceReason, "the largest that fits") {
		t.Errorf("chose %s: %s", got.Choice, got.ChoiceReason)
	}
	if f := got.Variants[2]; !strings.HasPrefix(f.Advice, "--ctx-size ") && !strings.HasPrefix(f.Advice, "--n-gpu-layers ") {
		t.Errorf("advice is %q", f.Advice)
	}
}

// TestServersOfOneReference: what is taken fits with the settings of all servers whose model it is.
func TestServersOfOneReference(t *testing.T) {
	h := hubtest.Start(t, hubtest.Repo{Name: "org/repo", Files: files("llama")})
	client, l := list(t, h, "hf:org/repo")
	box := Imagined([]uint64{needOf(t, q8_0, 8192)})
	short, long := Use{run, box}, Use{vram.Run{CtxSize: 16384, GPULayers: 99}, box}
	disabled := Use{run, Box{Problem: "the GPU is disabled"}}
	for name, tt := range map[string]struct {
		uses      []Use
		want, why string
	}{
		"one":                       {[]Use{short}, "Q8_0", "with a context of 8192 tokens"},
		"another context":           {[]Use{short, long}, "Q4_0", "with a context of 16384 tokens"},
		"in another order":          {[]Use{long, short}, "Q4_0", "with a context of 16384 tokens"},
		"one with flags":            {[]Use{{vram.Run{CtxSize: 8192, GPULayers: 99, Args: []string{"-ub", "2048"}}, box}}, "Q4_0", "with a context of 8192 tokens"},
		"one of them without a GPU": {[]Use{short, disabled}, "Q4_0", "there is no GPU to fit"},
	} {
		v, why, err := Choose(t.Context(), client, l, tt.uses)
		if err != nil || v.Name() != tt.want || !strings.Contains(why, tt.why) {
			t.Errorf("%s: %s, %s, %v", name, v.Name(), why, err)
		}
		if f, err := Remote(t.Context(), client, l, tt.uses); err != nil || f.Choice != tt.want || f.ChoiceReason != why || f.CtxSize != tt.uses[0].Run.CtxSize {
			t.Errorf("%s: the table has %+v, %v", name, f, err)
		}
	}
}

// TestRemoteOne: a reference with a quantisation is about that alone.
func TestRemoteOne(t *testing.T) {
	h := hubtest.Start(t, hubtest.Repo{Name: "org/repo", Files: files("llama")})
	client, l := list(t, h, "hf:org/repo:Q4_0")
	got, err := Remote(t.Context(), client, l, uses(Box{Problem: "no GPU"}))
	if err != nil || len(got.Variants) != 1 || got.Variants[0].Name != "Q4_0" || got.Choice != "" {
		t.Fatalf("got %+v, %v", got, err)
	}
	if v := got.Variants[0]; v.NeedBytes == nil || v.Fits != "" || len(v.Places) != 0 || got.GPUProblem != "no GPU" {
		t.Errorf("without a GPU: %+v", got)
	}
}

// TestRemoteProblems: a file that cannot be read has its reason, and the others have their figures.
func TestRemoteProblems(t *testing.T) {
	broken := files("llama")
	broken[2].Content = append([]byte("GGUF\x03"), make([]byte, 1000)...)
	h := hubtest.Start(t, hubtest.Repo{Name: "org/some", Files: broken}, hubtest.Repo{Name: "org/none", Files: broken[2:]})
	client, l := list(t, h, "hf:org/some")
	got, err := Remote(t.Context(), client, l, uses(Imagined([]uint64{1 << 30})))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range got.Variants {
		if (v.Problem != "") != (v.Name == "Q4_0") || (v.NeedBytes == nil) != (v.Problem != "") {
			t.Errorf("%+v", v)
		}
	}
	if got.Choice != "Q8_0" {
		t.Errorf("chose %s", got.Choice)
	}
	client, l = list(t, h, "hf:org/none")
	if _, err := Remote(t.Context(), client, l, uses(Box{})); err == nil || !strings.Contains(err.Error(), "a-model-Q4_0.gguf") {
		t.Errorf("got %v", err)
	}
}

// TestUnknownArchitecture: there is no figure that may be wrong.
func TestUnknownArchitecture(t *testing.T) {
	h := hubtest.Start(t, hubtest.Repo{Name: "org/new", Files: files("llama9")})
	client, l := list(t, h, "hf:org/new")
	got, err := Remote(t.Context(), client, l, uses(Imagined([]uint64{1 << 40})))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range got.Variants {
		if v.NeedBytes != nil || v.Fits != "" || v.LargestContext != nil || !strings.Contains(v.Uncertain, "llama9") {
			t.Errorf("%+v", v)
		}
	}
	if got.Choice != "Q4_0" || !strings.Contains(got.ChoiceReason, "llama9") {
		t.Errorf("chose %s: %s", got.Choice, got.ChoiceReason)
	}
}

// TestCancel: a cancelled call ends with the reason.
func TestCancel(t *testing.T) {
	h := hubtest.Start(t, hubtest.Repo{Name: "org/repo", Files: files("llama")})
	client, l := list(t, h, "hf:org/repo")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the user left"))
	if _, err := Remote(ctx, client, l, uses(Box{})); err == nil || err.Error() != "the user left" {
		t.Errorf("got %v", err)
	}
}

// TestPlaces: on which GPUs a model fits, now and later.
func TestPlaces(t *testing.T) {
	need := needOf(t, q8_0, 8192)
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(path, model("llama", q8_0), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		gpus []GPU
		args []string
		want []string // of each place
		fits string
	}{
		"one that is empty":              {gpus: []GPU{{Usable: need, UsableNow: need}}, want: []string{"now"}, fits: "now"},
		"one byte less":                  {gpus: []GPU{{Usable: need - 1, UsableNow: need - 1}}, want: []string{"no"}, fits: "no"},
		"once others have left":          {gpus: []GPU{{Usable: need, UsableNow: need - 1}}, want: []string{"later"}, fits: "later"},
		"the second of two, not split":   {gpus: []GPU{{Usable: 1, UsableNow: 1}, {Usable: need, UsableNow: need}}, want: []string{"no", "now", "no"}, fits: "now"},
		"split only":                     {gpus: []GPU{{Usable: need - 1, UsableNow: need - 1}, {Usable: need - 1, UsableNow: 1}}, want: []string{"no", "no", "later"}, fits: "later"},
		"flags that forbid to split":     {gpus: []GPU{{Usable: need - 1}, {Usable: need - 1}}, args: []string{"-sm", "none"}, want: []string{"no", "no"}, fits: "no"},
		"flags with an uncertain effect": {gpus: []GPU{{Usable: 1}}, args: []string{"-ot", "x=CPU"}},
		"no GPU":                         {},
	} {
		t.Run(name, func(t *testing.T) {
			r := run
			r.Args = tt.args
			got, err := Local("m", []string{path}, Use{r, Box{GPUs: tt.gpus}})
			if err != nil {
				t.Fatal(err)
			}
			v := got.Variants[0]
			var places []string
			for _, p := range v.Places {
				places = append(places, p.Fits)
				if (p.MissingBytes > 0) != (p.Fits == control.FitsNot) {
					t.Errorf("%+v", p)
				}
			}
			if strings.Join(places, " ") != strings.Join(tt.want, " ") || v.Fits != tt.fits || (v.Advice != "") && v.Fits != control.FitsNot {
				t.Errorf("%v %s, want %v %s", places, v.Fits, tt.want, tt.fits)
			}
		})
	}
}

// TestBox: what is usable is what the planner counts, and no GPU is no error.
func TestBox(t *testing.T) {
	process := func(pid int, memory uint64) gpu.Process { return gpu.Process{PID: pid, Memory: &memory} }
	total, free := uint64(24<<30), uint64(10<<30)
	card := gpu.GPU{Index: 1, UUID: "GPU-1", MemoryTotal: &total, MemoryFree: &free, Processes: []gpu.Process{process(1, 8<<30), process(2, 6<<30)}}
	dark := gpu.GPU{Index: 2, UUID: "GPU-2"}
	for name, tt := range map[string]struct {
		sample    gpu.Sample
		selection string
		own       []int
		want      []GPU
		problem   string
	}{
		"own and other processes": {sample: gpu.Sample{GPUs: []gpu.GPU{card}}, own: []int{1}, want: []GPU{{Index: 1, Total: total, Usable: 18<<30 - 128*mib, UsableNow: 10<<30 - 128*mib, Empty: total}}},
		"no driver":               {sample: gpu.Sample{Problem: "no driver"}, problem: "no driver"},
		"no GPU":                  {problem: "no NVIDIA GPU"},
		"none selected":           {sample: gpu.Sample{GPUs: []gpu.GPU{card}}, selection: gpu.None, problem: "disabled"},
		"another selected":        {sample: gpu.Sample{GPUs: []gpu.GPU{card}}, selection: "7", problem: "there is no GPU 7"},
		"one of two selected":     {sample: gpu.Sample{GPUs: []gpu.GPU{card, dark}}, selection: "1", want: []GPU{{Index: 1, Total: total, Usable: free - 128*mib, UsableNow: free - 128*mib, Empty: total}}},
		"memory is not reported":  {sample: gpu.Sample{GPUs: []gpu.GPU{dark}}, problem: "does not report"},
		"lost":                    {sample: gpu.Sample{GPUs: []gpu.GPU{{UUID: "GPU-3", Lost: true, MemoryFree: &free, MemoryTotal: &total}}}, problem: "cannot reach GPU 0"},
	} {
		t.Run(name, func(t *testing.T) {
			got := BoxOf(&tt.sample, tt.selection, tt.own)
			if len(got.GPUs) != len(tt.want) || len(got.GPUs) > 0 && got.GPUs[0] != tt.want[0] || !strings.Contains(got.Problem, tt.problem) || (got.Problem == "") != (tt.problem == "") {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestChoose: what pull takes if no quantisation is named.
func TestChoose(t *testing.T) {
	v := func(quantisation, fits string) control.FitVariant {
		return control.FitVariant{Name: quantisation, Quantization: quantisation, Fits: fits}
	}
	broken := control.FitVariant{Quantization: "Q4_K_M", Problem: "cut short"}
	unsure := v("Q4_K_M", "")
	unsure.Uncertain = "it is new"
	advised := v("Q4_K_M", "no")
	advised.Advice = "--ctx-size 4096"
	for name, tt := range map[string]struct {
		variants []control.FitVariant // the smallest first
		problem  string
		want     string
		why      string
	}{
		"the largest that fits":      {[]control.FitVariant{v("Q2_K", "now"), v("Q4_K_M", "now"), v("Q6_K", "later"), v("Q8_0", "no")}, "", "Q4_K_M", "the largest that fits"},
		"only later":                 {[]control.FitVariant{v("Q2_K", "later"), v("Q4_K_M", "later"), v("Q8_0", "no")}, "", "Q4_K_M", "have left"},
		"not 16 bits":                {[]control.FitVariant{v("Q8_0", "now"), v("BF16", "now"), v("F32", "now")}, "", "Q8_0", "the largest"},
		"none fits":                  {[]control.FitVariant{v("Q2_K", "no"), advised, v("Q8_0", "no")}, "", "Q4_K_M", "it does with --ctx-size 4096"},
		"none fits, whatever it is":  {[]control.FitVariant{v("Q2_K", "no"), v("Q8_0", "no")}, "", "Q8_0", "not even in part"},
		"no GPU":                     {[]control.FitVariant{v("Q2_K", ""), v("Q4_K_M", ""), v("Q8_0", "")}, "no driver", "Q4_K_M", "no driver"},
		"the usual one is damaged":   {[]control.FitVariant{broken, v("Q5_K_M", "")}, "no driver", "Q5_K_M", "no driver"},
		"not known":                  {[]control.FitVariant{v("Q2_K", ""), unsure}, "", "Q4_K_M", "it is new"},
		"only 16 bits, and they fit": {[]control.FitVariant{v("BF16", "now")}, "", "BF16", "it fits"},
		"no usual one":               {[]control.FitVariant{v("IQ1_S", ""), v("BF16", "")}, "no driver", "IQ1_S", "usual"},
	} {
		t.Run(name, func(t *testing.T) {
			i, why := choose(control.Fit{Variants: tt.variants, GPUProblem: tt.problem, CtxSize: 8192})
			if got := tt.variants[i].Quantization; got != tt.want || !strings.Contains(why, tt.why) {
				t.Errorf("%s: %s, want %s: %s", got, why, tt.want, tt.why)
			}
		})
	}
}
