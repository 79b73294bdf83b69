// Package downloads fetches the models that servers of llmsup.yaml name by where they are
// published (`model: hf:ORG/REPO:QUANT`), and those that an operator wants. cmd/internal/daemon
// runs it, and starts a server when its model is there; cmd/llmsup uses what it remembers of
// the models that were downloaded before.
//
// It never decides what is downloaded of a repository or how, which package models/hub does,
// and never starts or stops a server.
package downloads
