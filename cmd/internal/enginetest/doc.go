// Package enginetest is a small engine for tests of servers with a `command`: it starts
// slowly, has no slots, and sends audio in pieces, as engines other than llama-server do.
// Its answers show what it received.
//
// A test binary runs itself as the engine: testscript.Main gets Main under the name
// test-engine, and Container under the name test-container, which stands for docker and
// podman. It is for tests alone.
package enginetest
