// Package modelfiles lists the GGUF files on disk that no server uses, with what their headers
// say and what VRAM they would need. The page of cmd/internal/page shows them; cmd/internal/daemon
// says which folders to read and which files the servers use.
//
// It reads file names and headers only, when it is asked, and what it has read it keeps until a
// file changes. Disks may be slow, or not answer: one goroutine reads at a time, with limits.
package modelfiles
