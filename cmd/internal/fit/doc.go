// Package fit computes which quantisations of a model fit the GPUs of a box, with which context,
// and otherwise what to lower. `llmsup fit` and the web page show it, and `llmsup pull` and the
// daemon choose a quantisation by it.
//
// The need is that of models/vram, and what is usable of a GPU that of cmd/internal/placement, so
// that the answer is the planner's. Of a remote file it reads the header only.
package fit
