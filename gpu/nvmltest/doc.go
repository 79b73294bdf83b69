// Package nvmltest gives tests a GPU where there is none: a library
// libnvidia-ml.so.1 that answers as NVIDIA's NVML, from a file of figures. It
// reads the file at every call, so a test can warm, fill, crowd, lose or hang a
// GPU under a program that runs. The tests of gpu and of cmd/llmsup call it; the
// program under test finds the library as it finds the real one, through
// LD_LIBRARY_PATH, and knows nothing of it.
//
// What the library holds to, and where it is stricter than NVIDIA's:
//   - Every nvmlInit needs its nvmlShutdown. Handles end with the last one:
//     another's, like a NULL, is INVALID_ARGUMENT.
//   - To a caller that has its handle, a GPU that went missing is lost.
//   - Xids are told that the file gains after their GPU was registered, each
//     once to one set. Once they are told, a lost GPU ends every wait at once.
//   - A mistake in the file ends the process, with a line on stderr.
package nvmltest
