// Package fileedit adds clients' keys and servers to a configuration file, and removes keys.
// It changes the text of the file in one place and keeps every other byte. llmsup key and
// llmsup pull --add call it. It never decides what a valid configuration is, which package
// config does, and never stores a key, only its hash.
package fileedit
