package browser_test

import (
	"bytes"
	"errors"
	"flag"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/page/browser"
)

var update = flag.Bool("update", false, "take the pictures of the README again")

// TestScreenshots: the pictures of the README are small, and show the page as it is if -update takes them again.
func TestScreenshots(t *testing.T) {
	f := newFixture(t)
	for name, c := range map[string]struct {
		view, text string
		look       browser.Look
	}{
		"page-now.png":   {"now", "In flight (5)", browser.Look{Width: 1280, Height: 1000}},
		"page-money.png": {"money", "Why calls left local", browser.Look{Width: 1280, Height: 840, Dark: true}},
	} {
		file := filepath.Join("../../../../.github", name)
		if *update {
			tab := open(t, f, c.view, c.look)
			tab.AwaitText(c.text)
			tab.Screenshot(file, false)
			shrink(t, file)
		}
		r, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		info, err := r.Stat()
		if err != nil {
			t.Fatal(err)
		}
		config, err := png.DecodeConfig(r)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 150_000 || config.Width != c.look.Width || config.Height != c.look.Height {
			t.Errorf("%s has %d bytes and %d x %d pixels: take it again with -update", name, info.Size(), config.Width, config.Height)
		}
	}
}

// shrink stores a picture with its 256 most frequent colours, which are nearly all that the page has.
func shrink(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	full, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	counts := map[color.Color]int{}
	for y := range full.Bounds().Dy() {
		for x := range full.Bounds().Dx() {
			counts[full.At(x, y)]++
		}
	}
	colors := slices.SortedFunc(maps.Keys(counts), func(a, b color.Color) int { return counts[b] - counts[a] })
	picture := image.NewPaletted(full.Bounds(), colors[:min(len(colors), 256)])
	draw.Draw(picture, picture.Bounds(), full, image.Point{}, draw.Src)
	w, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join((&png.Encoder{CompressionLevel: png.BestCompression}).Encode(w, picture), w.Close()); err != nil {
		t.Fatal(err)
	}
}
