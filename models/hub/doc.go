// Package hub finds and downloads GGUF files of a Hugging Face hub, or of any web server.
//
// `llmsup pull` and `llmsup fit` call it, and the daemon for a server whose model is hf:... It
// speaks the hub's API as the library huggingface_hub does: the commit and the files of a
// repository, and the address of each file, which redirects to a storage host. All files
// of one download are of the commit that was current when it was listed.
//
// The token goes to the hub's own host only, over https or to this machine, and is in no
// error. A file gets its final name after its SHA-256 was compared with the hub's.
package hub
