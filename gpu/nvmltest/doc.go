// Package nvmltest simulates GPUs for tests: a library libnvidia-ml.so.1 that answers as
// NVIDIA's NVML does, from a file of values. It reads the file at each call, so a test can
// heat, fill, lose or hang a GPU while a program runs. The tests of gpu and of cmd/llmsup
// use it. The program under test finds the library through LD_LIBRARY_PATH, like the real
// one, and does not differ for it.
//
// The library's rules, some of them stricter than NVIDIA's:
//   - Each nvmlInit needs an nvmlShutdown. The last one invalidates all handles: using one
//     later, or a NULL, returns INVALID_ARGUMENT.
//   - A GPU that becomes Missing is lost for a caller that has its handle.
//   - An Xid is reported if it was added to the file after its GPU was registered, once
//     and to one event set. With no Xid left, a lost GPU ends each wait at once.
//   - A mistake in the file ends the process, with a line on stderr.
package nvmltest
